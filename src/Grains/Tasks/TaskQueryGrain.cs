using GpuTasks.Store;
using Orleans.Concurrency;

namespace GpuTasks.Tasks;

/// <summary>Lists and counts tasks from the index; holds nothing, so any silo may answer and calls may interleave.</summary>
[GrainType("task-query")]
[StatelessWorker, Reentrant]
public sealed class TaskQueryGrain(ITaskIndex index) : Grain, ITaskQueryGrain
{
    /// <inheritdoc />
    public async Task<TaskPage> List(TaskQuery query, CancellationToken cancellationToken = default)
    {
        var (tasks, nextToken) = await index.ListAsync(this.GetPrimaryKeyString(), query, cancellationToken);
        return new TaskPage([.. tasks.Select(task => task.ToSnapshot(query.IncludePayload))], nextToken);
    }

    /// <inheritdoc />
    public async Task<TaskCounts> Count(string function, CancellationToken cancellationToken = default) =>
        new(await index.CountAsync(this.GetPrimaryKeyString(), function, cancellationToken));
}
