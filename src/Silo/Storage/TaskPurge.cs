using GpuTasks.Store;

namespace GpuTasks.Storage;

/// <summary>Deletes task rows by the index of ended ones, with their blobs.</summary>
internal sealed class TaskPurge(StoreDatabase database) : ITaskPurge
{
    private const string Ended =
        "from grain_state where kind = 'task' and ended_at is not null and wake_at is null and listed = @listed and ended_at < @before "
        + "order by ended_at limit @limit";

    // Rows that somebody is writing are left for another time, so that neither waits for the other.
    internal const string PostgreSql =
        $"""
        with gone as (delete from grain_state where ctid = any (array(select ctid {Ended} for update skip locked)) returning key),
        blobs as (delete from grain_blob where key = any (array(select key from gone)))
        select 1 from gone
        """;

    // A trigger takes the blobs along.
    internal const string Sqlite = $"delete from grain_state where rowid in (select rowid {Ended}) returning 1";

    public async Task<int> PurgeAsync(bool recorded, DateTimeOffset endedBefore, int limit, CancellationToken cancellationToken)
    {
        var rows = await database.QueryAsync(
            database.Provider == StoreProvider.PostgreSql ? PostgreSql : Sqlite,
            [("listed", recorded ? 1 : 0), ("before", endedBefore.ToUnixTimeMilliseconds()), ("limit", limit)],
            _ => 0,
            cancellationToken);
        return rows.Count;
    }
}
