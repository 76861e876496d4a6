using System.Data.Common;
using GpuTasks.Dispatch;
using GpuTasks.Functions;
using GpuTasks.Store;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Orleans.Concurrency;
using Orleans.Storage;

namespace GpuTasks.Tasks;

/// <summary>
/// Writes the first row of tasks in place of their grains, so that a task which waits has no activation. A row that exists is
/// left alone by the store's own check, which holds among all writers; the grain of a new row finds it when it is first needed.
/// </summary>
[GrainType("task-batch")]
[StatelessWorker, Reentrant]
public sealed partial class TaskBatchGrain(
    [FromKeyedServices(StoreNames.Provider)] IGrainStorage storage,
    [FromKeyedServices(TimeProviderNames.Grains)] TimeProvider clock,
    FreshTasks fresh,
    ILogger<TaskBatchGrain> logger) : Grain, ITaskBatchGrain
{
    private static readonly GrainType TaskType = GrainType.Create("task");

    // Accepted, and not yet told to the dispatcher.
    private List<(string? Version, Ticket Ticket)> accepted = [];

    /// <inheritdoc />
    public async Task<IReadOnlyList<BatchOutcome>> Submit(TaskBatch batch, CancellationToken cancellationToken = default)
    {
        var function = this.GetPrimaryKeyString().Split('/');
        var now = clock.GetUtcNow();
        var rows = batch.Tasks
            .Select(task => TaskMachine.Apply(new TaskState(), new Submitted(now, new TaskKey(function[0], function[1], task.TaskId), task.Submission)))
            .ToList();
        var outcomes = storage is INewRows together && rows.Count > 1
            ? await AddAsync(together, rows)
            : await Task.WhenAll(rows.Select(task => AddAsync(task, WriteAsync)));
        var isFirst = accepted.Count == 0;
        accepted.AddRange(rows
            .Where((_, i) => outcomes[i] is BatchOutcome.Accepted)
            .Select(row => (row.Submission!.Version, new Ticket(row.Key!.Value.TaskId, row.Submission!.Priority, row.EnqueuedAt))));
        if (isFirst && accepted.Count > 0)
        {
            OfferAsync().Ignore();
        }

        return outcomes;
    }

    /// <summary>One message for all that the same commit accepted: their calls are next in line on this scheduler.</summary>
    private async Task OfferAsync()
    {
        await Task.Yield();
        var tickets = accepted;
        accepted = [];
        var function = this.GetPrimaryKeyString().Split('/');
        foreach (var queue in tickets.GroupBy(one => one.Version, one => one.Ticket))
        {
            await GrainFactory.Get<IDispatcherGrain>(new DefinitionKey(function[0], function[1], queue.Key).ToString())
                .OfferMany([.. queue], CancellationToken.None);
        }
    }

    private async Task<BatchOutcome[]> AddAsync(INewRows together, List<TaskState> tasks)
    {
        var rows = tasks.ConvertAll(task => (Id: IdOf(task), Row: (IGrainState<TaskState>)new GrainState<TaskState>(task)));
        var faults = await together.AddAsync(StoreNames.Task, rows);
        var outcomes = new BatchOutcome[tasks.Count];
        for (var i = 0; i < tasks.Count; i++)
        {
            if (faults[i] is null)
            {
                fresh.Add(tasks[i].Key!.Value.ToString(), rows[i].Row);
                outcomes[i] = BatchOutcome.Accepted;
            }
            else
            {
                var fault = faults[i]!;
                outcomes[i] = await AddAsync(tasks[i], _ => Task.FromException(fault));
            }
        }

        return outcomes;
    }

    private async Task<BatchOutcome> AddAsync(TaskState task, Func<TaskState, Task> write)
    {
        try
        {
            return await AddOrLookAsync(task, write);
        }
        catch (Exception exception) when (exception is OrleansException or StoreUnavailableException or DbException or TimeoutException)
        {
            LogAddFailed(exception, task.Key!.Value);
            return BatchOutcome.Unavailable;
        }
    }

    private async Task<BatchOutcome> AddOrLookAsync(TaskState task, Func<TaskState, Task> write)
    {
        try
        {
            await write(task);
            return BatchOutcome.Accepted;
        }
        catch (InconsistentStateException)
        {
            // There is such a task already, or it is not known whether the write came through: the row tells.
            var row = new GrainState<TaskState>(new TaskState());
            await storage.ReadStateAsync(StoreNames.Task, IdOf(task), row);
            return row.State?.Submission is not { } there ? BatchOutcome.Unavailable
                : there.RequestId == task.Submission!.RequestId ? BatchOutcome.Accepted : BatchOutcome.AlreadyExists;
        }
    }

    private async Task WriteAsync(TaskState task)
    {
        var row = new GrainState<TaskState>(task);
        await storage.WriteStateAsync(StoreNames.Task, IdOf(task), row);
        fresh.Add(task.Key!.Value.ToString(), row);
    }

    private static GrainId IdOf(TaskState task) => GrainId.Create(TaskType, task.Key!.Value.ToString());

    [LoggerMessage(LogLevel.Warning, "Task {TaskId} of a batch could not be stored")]
    private partial void LogAddFailed(Exception exception, TaskKey taskId);
}
