-- A sprinkler that says nothing for six seconds is noticed, once, with its last state; examples/dead-man has more.
CREATE TABLE silent_sprinklers (sprinkler VARCHAR, last_time TIMESTAMP, state VARCHAR, PRIMARY KEY (sprinkler, last_time));

CREATE RULE silent_sprinkler AS
  SELECT topic(3) AS sprinkler, timestamp() AS last_time, state FROM 'macdonald/sprinklers/+'
  AFTER INTERVAL '6 seconds' UNLESS TRUE PARTITION BY topic(3)
  INTO silent_sprinklers, TOPIC 'notices/silent/${topic(3)}' QOS 1;
