-- Who is online, and who has been away for fifteen minutes.
--
-- Devices say how they are on lifecycle/<device>: {"status": "online"} when they connect, {"status": "offline"} before
-- they disconnect; their last will, which the server publishes when they crash, says offline as well.

-- The last word of each device, at once.
CREATE TABLE device_status (device VARCHAR, status VARCHAR, time TIMESTAMP, PRIMARY KEY (device));
-- Every notice, by device and the moment of the outage.
CREATE TABLE outages (device VARCHAR, time TIMESTAMP, PRIMARY KEY (device, time));

CREATE RULE device_status AS
  SELECT topic(2) AS device, status, timestamp() AS time FROM 'lifecycle/+'
  INTO device_status;

-- One notice for an outage, fifteen minutes after it began, unless the device is back by then. However often 'offline'
-- is repeated, it is one outage; a device that comes and goes is timed from its last going.
CREATE RULE offline_alert AS
  SELECT topic(2) AS device, timestamp() AS time FROM 'lifecycle/+' WHERE status = 'offline'
  AFTER INTERVAL '15 minutes' UNLESS status = 'online' PARTITION BY topic(2)
  INTO outages, TOPIC 'alerts/offline/${topic(2)}' QOS 1;
