-- A message that could not be delivered to a task's destination is a part of the task's row; this column lists those.
alter table grain_state add column dead_at bigint;
create index dead_letter on grain_state (account, dead_at, key) where kind = 'task' and dead_at is not null;

-- What has ended only waits for its destination, and must not stand before what has not.
drop index task_due;
create index task_due on grain_state (wake_at, key) where kind = 'task' and wake_at is not null and ended_at is null;
create index delivery_due on grain_state (wake_at, key) where kind = 'task' and wake_at is not null and ended_at is not null;

-- Internal topics. Messages of a topic are numbered without gaps, in the order of their commits.
create table topic (
    account text collate "C" not null,
    name text collate "C" not null,
    last_seq bigint not null,
    primary key (account, name)
);
create table topic_message (
    account text collate "C" not null,
    topic text collate "C" not null,
    seq bigint not null,
    id text collate "C" not null,
    at bigint not null,
    body bytea not null,
    primary key (account, topic, seq),
    unique (account, topic, id),
    foreign key (account, topic) references topic on delete cascade
);
create index topic_message_by_time on topic_message (at);

-- @query WriteToStorageKey
-- A new row starts at a version taken from the clock, so that an activation which has slept through the row's deletion and
-- a new row of its key cannot take the new row for its own.
-- PostgreSQL refuses to read JSON with NUL in it, which a function's error message may well hold; the index never does.
with i as (select replace(convert_from(@PayloadBinary, 'UTF8'), '\u0000', '\u0001')::json -> 'Index' as x),
updated as (
    update grain_state set payload = @PayloadBinary, version = version + 1, modified = now(),
        account = x ->> 'Account', function = x ->> 'Function', task_id = x ->> 'TaskId', qualifier = x ->> 'Qualifier', line = x ->> 'Line',
        status = x ->> 'Status', listed = (x ->> 'Listed')::boolean::int, priority = (x ->> 'Priority')::int,
        enqueued_at = (x ->> 'EnqueuedAt')::bigint, started_at = (x ->> 'StartedAt')::bigint,
        ended_at = (x ->> 'EndedAt')::bigint, wake_at = (x ->> 'WakeAt')::bigint, dead_at = (x ->> 'DeadAt')::bigint
    from i
    where key = coalesce(@GrainIdExtensionString, '') and kind = @GrainTypeString and n0 = @GrainIdN0 and n1 = @GrainIdN1
        and service = @ServiceId and version = @GrainStateVersion::int
    returning version),
inserted as (
    insert into grain_state (key, kind, n0, n1, service, version, payload,
        account, function, task_id, qualifier, line, status, listed, priority, enqueued_at, started_at, ended_at, wake_at, dead_at)
    select coalesce(@GrainIdExtensionString, ''), @GrainTypeString, @GrainIdN0, @GrainIdN1, @ServiceId, 1 + ((extract(epoch from clock_timestamp()) * 1000)::bigint % 2000000000)::int,
        @PayloadBinary,
        x ->> 'Account', x ->> 'Function', x ->> 'TaskId', x ->> 'Qualifier', x ->> 'Line', x ->> 'Status',
        (x ->> 'Listed')::boolean::int, (x ->> 'Priority')::int, (x ->> 'EnqueuedAt')::bigint,
        (x ->> 'StartedAt')::bigint, (x ->> 'EndedAt')::bigint, (x ->> 'WakeAt')::bigint, (x ->> 'DeadAt')::bigint
    from i where @GrainStateVersion::int is null
    on conflict do nothing
    returning version)
select version as "NewGrainStateVersion" from updated union all select version from inserted

-- @query ClearStorageKey
update grain_state set payload = null, version = version + 1, modified = now(),
    account = null, function = null, task_id = null, qualifier = null, line = null, status = null, listed = null, priority = null,
    enqueued_at = null, started_at = null, ended_at = null, wake_at = null, dead_at = null
where key = coalesce(@GrainIdExtensionString, '') and kind = @GrainTypeString and n0 = @GrainIdN0 and n1 = @GrainIdN1
    and service = @ServiceId and version = @GrainStateVersion::int
returning version as "NewGrainStateVersion"
