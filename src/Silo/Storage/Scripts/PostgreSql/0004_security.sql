-- Who changed what and when.
create table audit (
    id bigint generated always as identity primary key,
    at bigint not null,
    account text not null,
    request_id text not null,
    actor text not null,
    action text not null,
    resource text not null,
    source text not null,
    status integer not null
);
create index audit_by_account on audit (account, id);
create index audit_by_time on audit (at);

-- Keys that stored secrets are encrypted with, where they are not kept in a folder. A key is never deleted: what it encrypted stays readable.
create table key_ring (
    name text primary key,
    xml text not null
);
