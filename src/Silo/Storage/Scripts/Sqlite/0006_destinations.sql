-- A message that could not be delivered to a task's destination is a part of the task's row; this column lists those.
alter table grain_state add column dead_at integer;
create index dead_letter on grain_state (account, dead_at, key) where kind = 'task' and dead_at is not null;

-- What has ended only waits for its destination, and must not stand before what has not.
drop index task_due;
create index task_due on grain_state (wake_at, key) where kind = 'task' and wake_at is not null and ended_at is null;
create index delivery_due on grain_state (wake_at, key) where kind = 'task' and wake_at is not null and ended_at is not null;

-- Internal topics. Messages of a topic are numbered without gaps, in the order of their commits.
create table topic (
    account text not null,
    name text not null,
    last_seq integer not null,
    primary key (account, name)
);
create table topic_message (
    account text not null,
    topic text not null,
    seq integer not null,
    id text not null,
    at integer not null,
    body blob not null,
    primary key (account, topic, seq),
    unique (account, topic, id)
);
create index topic_message_by_time on topic_message (at);
create trigger messages_of_deleted_topic after delete on topic begin
    delete from topic_message where account = old.account and topic = old.name;
end;

-- @query WriteToStorageKey
-- A new row starts at a version taken from the clock, so that an activation which has slept through the row's deletion and
-- a new row of its key cannot take the new row for its own.
with i as materialized (select cast(@PayloadBinary as text) -> '$.Index' as x)
update grain_state set payload = @PayloadBinary, version = version + 1, modified = unixepoch(),
    account = x ->> 'Account', function = x ->> 'Function', task_id = x ->> 'TaskId', qualifier = x ->> 'Qualifier', line = x ->> 'Line',
    status = x ->> 'Status', listed = x ->> 'Listed', priority = x ->> 'Priority', enqueued_at = x ->> 'EnqueuedAt',
    started_at = x ->> 'StartedAt', ended_at = x ->> 'EndedAt', wake_at = x ->> 'WakeAt', dead_at = x ->> 'DeadAt'
from i
where key = coalesce(@GrainIdExtensionString, '') and kind = @GrainTypeString and n0 = @GrainIdN0 and n1 = @GrainIdN1
    and service = @ServiceId and version = @GrainStateVersion
returning version as NewGrainStateVersion;
with i as materialized (select cast(@PayloadBinary as text) -> '$.Index' as x)
insert into grain_state (key, kind, n0, n1, service, version, payload,
    account, function, task_id, qualifier, line, status, listed, priority, enqueued_at, started_at, ended_at, wake_at, dead_at)
select coalesce(@GrainIdExtensionString, ''), @GrainTypeString, @GrainIdN0, @GrainIdN1, @ServiceId, 1 + cast(unixepoch('subsec') * 1000 as integer) % 2000000000,
    @PayloadBinary,
    x ->> 'Account', x ->> 'Function', x ->> 'TaskId', x ->> 'Qualifier', x ->> 'Line', x ->> 'Status', x ->> 'Listed', x ->> 'Priority',
    x ->> 'EnqueuedAt', x ->> 'StartedAt', x ->> 'EndedAt', x ->> 'WakeAt', x ->> 'DeadAt'
from i where @GrainStateVersion is null
on conflict do nothing
returning version as NewGrainStateVersion;

-- @query ClearStorageKey
update grain_state set payload = null, version = version + 1, modified = unixepoch(),
    account = null, function = null, task_id = null, qualifier = null, line = null, status = null, listed = null, priority = null,
    enqueued_at = null, started_at = null, ended_at = null, wake_at = null, dead_at = null
where key = coalesce(@GrainIdExtensionString, '') and kind = @GrainTypeString and n0 = @GrainIdN0 and n1 = @GrainIdN1
    and service = @ServiceId and version = @GrainStateVersion
returning version as NewGrainStateVersion
