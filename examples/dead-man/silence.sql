-- A dead man's switch: a sensor that has sent nothing for five minutes.
--
-- Every message disarms the sensor's timer and arms it again, with that message: what is emitted tells the last reading.

-- The last reading of each sensor before it fell silent.
CREATE TABLE silent_sensors (sensor VARCHAR, last_time TIMESTAMP, temperature DOUBLE, PRIMARY KEY (sensor));

CREATE RULE silence AS
  SELECT topic(3) AS sensor, timestamp() AS last_time, temperature FROM 'macdonald/sensors/+'
  AFTER INTERVAL '5 minutes' UNLESS TRUE PARTITION BY topic(3)
  INTO silent_sensors, TOPIC 'alerts/silent/${topic(3)}' QOS 1;
