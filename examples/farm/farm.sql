-- The farm of macdonald/#: sensors publish readings on macdonald/sensors/<id>.

-- Every reading, by sensor and time, for fast lookups. Members without a column are kept, too: SQL shows them in _rest.
-- Readings are forgotten after 30 days.
CREATE TABLE sensor_data (
  sensor_id VARCHAR, ts BIGINT, temperature DOUBLE, humidity DOUBLE, ph DOUBLE, PRIMARY KEY (sensor_id, ts)
) WITH (ttl = INTERVAL '30 days');

-- The average of each sensor over ten seconds.
CREATE TABLE averages (sensor VARCHAR, since BIGINT, mean DOUBLE, n BIGINT, PRIMARY KEY (sensor, since));

-- Every reading, for good: a Delta table in the data folder.
CREATE SINK farm_lake WITH (connector = 'lake');

-- Where the AWS document archive.json delivers to.
CREATE SINK farm_archive WITH (connector = 'lake');

-- macdonald/sensors/123
CREATE RULE store_sensor_data AS
  SELECT *, topic(3) AS sensor_id, timestamp() AS ts FROM 'macdonald/sensors/+'
  INTO sensor_data, farm_lake;

CREATE RULE average_by_sensor AS
  SELECT topic(3) AS sensor, window_start AS since, avg(temperature) AS mean, count(*) AS n
  FROM 'macdonald/sensors/+'
  GROUP BY topic(3), tumble(INTERVAL '10 seconds')
  INTO averages;

-- Whoever listens to alerts/# hears of heat.
CREATE RULE too_hot AS
  SELECT topic(3) AS sensor, temperature FROM 'macdonald/sensors/+' WHERE temperature > 50
  INTO TOPIC 'alerts/${topic(3)}/heat' QOS 1;
