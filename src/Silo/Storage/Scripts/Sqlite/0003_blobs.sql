-- Parts of rows over 32 KiB. A blob is written in the transaction of the first row version that names it and never changed;
-- it is deleted with its row.
create table grain_blob (
    key text not null,
    id text not null,
    data blob not null,
    primary key (key, id)
);
create trigger blobs_of_deleted_row after delete on grain_state when old.kind = 'task'
begin
    delete from grain_blob where key = old.key;
end;
