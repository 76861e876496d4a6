namespace GpuTasks.Storage;

/// <summary>
/// Versions of rows. A new row starts at a number taken from the clock, so that an activation which has slept through the
/// row's deletion and a new row of its key cannot take the new row for its own.
/// </summary>
internal static class StoreVersions
{
    public const string FirstInPostgreSql = "1 + ((extract(epoch from clock_timestamp()) * 1000)::bigint % 2000000000)::int";

    public const string FirstInSqlite = "1 + cast(unixepoch('subsec') * 1000 as integer) % 2000000000";
}
