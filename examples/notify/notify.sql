-- Alarms go to one topic. Who is told, by what, and of which alarms, is said by those who subscribe to it.

CREATE SINK alarms WITH (connector = 'notify');

CREATE RULE too_hot AS
  SELECT topic(3) AS sensor, temperature, CASE WHEN temperature > 70 THEN 'critical' ELSE 'warning' END AS severity
  FROM 'macdonald/sensors/+' WHERE temperature > 50
  INTO alarms;

-- Short messages, mail and push go through gateways that take HTTP requests: what they want is what a rule selects.
-- Here all three are the same program on this machine; in life each has its own URL, and its key as a SECRET in a header.
CREATE SINK sms  WITH (connector = 'webhook', url = 'http://127.0.0.1:9000/sms', allow_private = '127.0.0.1:9000');
CREATE SINK mail WITH (connector = 'webhook', url = 'http://127.0.0.1:9000/mail', allow_private = '127.0.0.1:9000');
CREATE SINK push WITH (connector = 'webhook', url = 'http://127.0.0.1:9000/push/${device}',
  allow_private = '127.0.0.1:9000', "header.X-Priority" = '${priority}');

CREATE RULE text_the_farmer AS
  SELECT '+442079460000' AS recipient, concat('Sensor ', sensor, ' is at ', temperature, ' degrees') AS text
  FROM alarms WHERE severity = 'critical' INTO sms;

CREATE RULE mail_the_office AS
  SELECT 'office@farm.example' AS recipient, concat(upper(severity), ': sensor ', sensor) AS subject,
         concat('It has ', temperature, ' degrees.') AS text
  FROM alarms INTO mail;

CREATE RULE push_to_the_phone AS
  SELECT 'phone-1' AS device, CASE WHEN severity = 'critical' THEN 'high' ELSE 'low' END AS priority, sensor AS title
  FROM alarms INTO push;

-- The mechanics fetch their work; the panel in the barn is an MQTT client.
CREATE SINK repairs WITH (connector = 'queue', visibility = INTERVAL '10 minutes', max_receives = 3);
CREATE RULE repair AS SELECT sensor FROM alarms WHERE severity = 'critical' INTO repairs;
CREATE RULE panel AS SELECT * FROM alarms INTO TOPIC 'panel/alarms' QOS 1;
