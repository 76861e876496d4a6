-- State of every grain, in the layout that the texts below read and write. The columns after payload are the row's
-- index: they are taken from the state in the statement that writes it, so the two always agree.
-- "C" compares bytes, so that a prefix is a range and both databases sort alike.
create table grain_state (
    key text collate "C" not null,
    kind text collate "C" not null,
    n0 bigint not null,
    n1 bigint not null,
    service text collate "C" not null,
    version int not null,
    modified timestamptz not null default now(),
    payload bytea,
    account text collate "C",
    function text collate "C",
    task_id text collate "C",
    qualifier text collate "C",
    status text collate "C",
    listed int,
    priority int,
    enqueued_at bigint,
    started_at bigint,
    ended_at bigint,
    wake_at bigint,
    primary key (key, kind, n0, n1, service)
) with (fillfactor = 80);

-- The qualifier comes last in these two to be filtered by without a look at the row.
create index task_by_time on grain_state (account, function, enqueued_at, task_id, qualifier) where kind = 'task' and listed = 1;
create index task_by_status on grain_state (account, function, status, enqueued_at, task_id, qualifier) where kind = 'task' and listed = 1;
create index task_waiting on grain_state (account, function, (-priority), enqueued_at, task_id) where kind = 'task' and status = 'Enqueued';
create index task_live on grain_state (account, function, task_id)
    where kind = 'task' and status in ('Enqueued', 'Dequeued', 'Running', 'Retrying', 'Stopping');
create index task_due on grain_state (wake_at, key) where kind = 'task' and wake_at is not null;
create index function_by_name on grain_state (account, function) where kind = 'function';

create table reminder (
    service text collate "C" not null,
    grain text collate "C" not null,
    name text collate "C" not null,
    start_at timestamptz not null,
    period bigint not null,
    grain_hash int not null,
    version int not null,
    primary key (service, grain, name)
);
create index reminder_by_hash on reminder (service, grain_hash);

create table silo_version (
    deployment text collate "C" primary key,
    version int not null
);
create table silo (
    deployment text collate "C" not null,
    address text not null,
    port int not null,
    generation int not null,
    name text not null,
    host text not null,
    status int not null,
    proxy_port int,
    suspects text,
    started_at timestamptz not null,
    alive_at timestamptz not null,
    primary key (deployment, address, port, generation)
);

create table OrleansQuery (
    QueryKey text primary key,
    QueryText text not null
);

-- @query ReadFromStorageKey
select payload as "PayloadBinary", version as "Version" from grain_state
where key = coalesce(@GrainIdExtensionString, '') and kind = @GrainTypeString and n0 = @GrainIdN0 and n1 = @GrainIdN1 and service = @ServiceId

-- @query WriteToStorageKey
-- A new row starts at a version taken from the clock, so that an activation which has slept through the row's deletion and
-- a new row of its key cannot take the new row for its own.
-- PostgreSQL refuses to read JSON with NUL in it, which a function's error message may well hold; the index never does.
with i as (select replace(convert_from(@PayloadBinary, 'UTF8'), '\u0000', '\u0001')::json -> 'Index' as x),
updated as (
    update grain_state set payload = @PayloadBinary, version = version + 1, modified = now(),
        account = x ->> 'Account', function = x ->> 'Function', task_id = x ->> 'TaskId', qualifier = x ->> 'Qualifier',
        status = x ->> 'Status', listed = (x ->> 'Listed')::boolean::int, priority = (x ->> 'Priority')::int,
        enqueued_at = (x ->> 'EnqueuedAt')::bigint, started_at = (x ->> 'StartedAt')::bigint,
        ended_at = (x ->> 'EndedAt')::bigint, wake_at = (x ->> 'WakeAt')::bigint
    from i
    where key = coalesce(@GrainIdExtensionString, '') and kind = @GrainTypeString and n0 = @GrainIdN0 and n1 = @GrainIdN1
        and service = @ServiceId and version = @GrainStateVersion::int
    returning version),
inserted as (
    insert into grain_state (key, kind, n0, n1, service, version, payload,
        account, function, task_id, qualifier, status, listed, priority, enqueued_at, started_at, ended_at, wake_at)
    select coalesce(@GrainIdExtensionString, ''), @GrainTypeString, @GrainIdN0, @GrainIdN1, @ServiceId, 1 + ((extract(epoch from clock_timestamp()) * 1000)::bigint % 2000000000)::int,
        @PayloadBinary,
        x ->> 'Account', x ->> 'Function', x ->> 'TaskId', x ->> 'Qualifier', x ->> 'Status',
        (x ->> 'Listed')::boolean::int, (x ->> 'Priority')::int, (x ->> 'EnqueuedAt')::bigint,
        (x ->> 'StartedAt')::bigint, (x ->> 'EndedAt')::bigint, (x ->> 'WakeAt')::bigint
    from i where @GrainStateVersion::int is null
    on conflict do nothing
    returning version)
select version as "NewGrainStateVersion" from updated union all select version from inserted

-- @query ClearStorageKey
update grain_state set payload = null, version = version + 1, modified = now(),
    account = null, function = null, task_id = null, qualifier = null, status = null, listed = null, priority = null,
    enqueued_at = null, started_at = null, ended_at = null, wake_at = null
where key = coalesce(@GrainIdExtensionString, '') and kind = @GrainTypeString and n0 = @GrainIdN0 and n1 = @GrainIdN1
    and service = @ServiceId and version = @GrainStateVersion::int
returning version as "NewGrainStateVersion"

-- @query DeleteStorageKey
delete from grain_state
where key = coalesce(@GrainIdExtensionString, '') and kind = @GrainTypeString and n0 = @GrainIdN0 and n1 = @GrainIdN1
    and service = @ServiceId and version = @GrainStateVersion::int
returning version + 1 as "NewGrainStateVersion"

-- @query ReadReminderRowsKey
select grain as "GrainId", name as "ReminderName", start_at as "StartTime", period as "Period", version as "Version"
from reminder where service = @ServiceId and grain = @GrainId

-- @query ReadReminderRowKey
select grain as "GrainId", name as "ReminderName", start_at as "StartTime", period as "Period", version as "Version"
from reminder where service = @ServiceId and grain = @GrainId and name = @ReminderName

-- @query ReadRangeRows1Key
select grain as "GrainId", name as "ReminderName", start_at as "StartTime", period as "Period", version as "Version"
from reminder where service = @ServiceId and grain_hash > @BeginHash and grain_hash <= @EndHash

-- @query ReadRangeRows2Key
select grain as "GrainId", name as "ReminderName", start_at as "StartTime", period as "Period", version as "Version"
from reminder where service = @ServiceId and (grain_hash > @BeginHash or grain_hash <= @EndHash)

-- @query UpsertReminderRowKey
insert into reminder (service, grain, name, start_at, period, grain_hash, version)
values (@ServiceId, @GrainId, @ReminderName, @StartTime, @Period, @GrainHash, 0)
on conflict (service, grain, name) do update
set start_at = excluded.start_at, period = excluded.period, grain_hash = excluded.grain_hash, version = reminder.version + 1
returning version as "Version"

-- @query DeleteReminderRowKey
with gone as (
    delete from reminder where service = @ServiceId and grain = @GrainId and name = @ReminderName and version = @Version::int
    returning 1)
select count(*)::int from gone

-- @query DeleteReminderRowsKey
delete from reminder where service = @ServiceId

-- @query GatewaysQueryKey
select address as "Address", proxy_port as "ProxyPort", generation as "Generation"
from silo where deployment = @DeploymentId and status = @Status and proxy_port > 0

-- @query MembershipReadRowKey
select s.address as "Address", s.port as "Port", s.generation as "Generation", s.name as "SiloName", s.host as "HostName",
    s.status as "Status", s.proxy_port as "ProxyPort", s.suspects as "SuspectTimes", s.started_at as "StartTime",
    s.alive_at as "IAmAliveTime", v.version as "Version"
from silo_version v
left join silo s on s.deployment = v.deployment and s.address = @Address and s.port = @Port and s.generation = @Generation
where v.deployment = @DeploymentId

-- @query MembershipReadAllKey
select s.address as "Address", s.port as "Port", s.generation as "Generation", s.name as "SiloName", s.host as "HostName",
    s.status as "Status", s.proxy_port as "ProxyPort", s.suspects as "SuspectTimes", s.started_at as "StartTime",
    s.alive_at as "IAmAliveTime", v.version as "Version"
from silo_version v
left join silo s on s.deployment = v.deployment
where v.deployment = @DeploymentId

-- @query InsertMembershipVersionKey
with made as (
    insert into silo_version (deployment, version) values (@DeploymentId, 0)
    on conflict do nothing
    returning 1)
select count(*)::int from made

-- @query InsertMembershipKey
with v as (
    update silo_version set version = version + 1
    where deployment = @DeploymentId and version = @Version::int and not exists (
        select from silo where deployment = @DeploymentId and address = @Address and port = @Port and generation = @Generation)
    returning deployment),
made as (
    insert into silo (deployment, address, port, generation, name, host, status, proxy_port, started_at, alive_at)
    select deployment, @Address, @Port, @Generation, @SiloName, @HostName, @Status, @ProxyPort, @StartTime, @IAmAliveTime from v
    returning 1)
select count(*)::int from made

-- @query UpdateMembershipKey
with v as (
    update silo_version set version = version + 1
    where deployment = @DeploymentId and version = @Version::int and exists (
        select from silo where deployment = @DeploymentId and address = @Address and port = @Port and generation = @Generation)
    returning deployment),
changed as (
    update silo s set status = @Status, suspects = @SuspectTimes, alive_at = @IAmAliveTime
    from v
    where s.deployment = v.deployment and s.address = @Address and s.port = @Port and s.generation = @Generation
    returning 1)
select count(*)::int from changed

-- @query UpdateIAmAlivetimeKey
update silo set alive_at = @IAmAliveTime
where deployment = @DeploymentId and address = @Address and port = @Port and generation = @Generation

-- @query DeleteMembershipTableEntriesKey
with gone as (delete from silo where deployment = @DeploymentId)
delete from silo_version where deployment = @DeploymentId

-- @query CleanupDefunctSiloEntriesKey
delete from silo where deployment = @DeploymentId and alive_at < @IAmAliveTime and status <> 3
