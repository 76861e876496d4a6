namespace GpuTasks.Store;

/// <summary>Deletes tasks that are no longer kept.</summary>
public interface ITaskPurge
{
    /// <summary>
    /// Deletes, in one statement, the tasks that ended first, with their payloads and results. A task whose destination is
    /// still to be told stays, and so does one that somebody is writing.
    /// </summary>
    /// <param name="recorded">Recorded tasks, or asynchronous calls without task mode.</param>
    /// <param name="endedBefore">Only tasks that ended before this.</param>
    /// <param name="limit">Most tasks to delete.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <returns>Tasks deleted; fewer than <paramref name="limit"/> when no more are there.</returns>
    Task<int> PurgeAsync(bool recorded, DateTimeOffset endedBefore, int limit, CancellationToken cancellationToken);
}
