-- Tasks that have ended and owe nobody anything, in the order in which they are purged. A task whose destination is still
-- to be told has a wake time, so it is not here.
create index task_ended on grain_state (listed, ended_at) where kind = 'task' and ended_at is not null and wake_at is null;
