-- Parts of rows over 32 KiB. A blob is written in the transaction of the first row version that names it and never changed;
-- the purge deletes it with its row. Compressed input and answers would only be compressed again, so it is not tried.
create table grain_blob (
    key text collate "C" not null,
    id text collate "C" not null,
    data bytea not null,
    primary key (key, id)
);
alter table grain_blob alter column data set storage external;
