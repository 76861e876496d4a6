using GpuTasks.Dispatch;
using GpuTasks.Functions;
using GpuTasks.Tasks;

namespace GpuTasks.Store;

/// <summary>Reads over the index columns of the state table; never writes. Pages by key, never by offset.</summary>
public interface ITaskIndex
{
    /// <summary>Recorded tasks of one function, with the filters of ListAsyncTasks.</summary>
    /// <exception cref="FormatException">The token is not one of ours.</exception>
    Task<(IReadOnlyList<TaskState> Tasks, string? NextToken)> ListAsync(string account, TaskQuery query, CancellationToken cancellationToken);

    /// <summary>Recorded tasks of one function by status.</summary>
    Task<IReadOnlyDictionary<GpuTaskStatus, long>> CountAsync(string account, string function, CancellationToken cancellationToken);

    /// <summary>Enqueued tasks of one definition in queue order: priority descending, then acceptance, then id.</summary>
    /// <param name="account">Owner.</param>
    /// <param name="line">Definition: <see cref="DefinitionKey.Line"/>.</param>
    /// <param name="after">Last ticket of the page before, or null for the head of the queue.</param>
    /// <param name="limit">Most tickets to give.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    Task<IReadOnlyList<Ticket>> WaitingAsync(string account, string line, Ticket? after, int limit, CancellationToken cancellationToken);

    /// <summary>Number of enqueued tasks of one definition before a place in its queue, however long it is.</summary>
    Task<long> CountAheadAsync(string account, string line, Ticket ticket, CancellationToken cancellationToken);

    /// <summary>Ids of tasks of one function, or of one version of it, that are not final, after <paramref name="afterTaskId"/>, ascending.</summary>
    Task<IReadOnlyList<string>> LiveAsync(string account, string function, string? version, string? afterTaskId, int limit, CancellationToken cancellationToken);

    /// <summary>Tasks that have not ended and whose wake time is not after <paramref name="now"/>, earliest first.</summary>
    Task<IReadOnlyList<TaskKey>> DueAsync(DateTimeOffset now, int limit, CancellationToken cancellationToken);

    /// <summary>Ended tasks whose wake time is not after <paramref name="now"/>, earliest first: messages to destinations, and dead letters whose time is over.</summary>
    /// <param name="now">Now.</param>
    /// <param name="after">Last of the page before, or null for the first.</param>
    /// <param name="limit">Most tasks to give.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    Task<IReadOnlyList<DueDelivery>> DueDeliveriesAsync(DateTimeOffset now, DueDelivery? after, int limit, CancellationToken cancellationToken);

    /// <summary>Keys of the definitions with enqueued tasks: <see cref="DefinitionKey"/> as text.</summary>
    Task<IReadOnlyList<string>> DefinitionsWaitingAsync(CancellationToken cancellationToken);
}

/// <summary>Reads over function rows.</summary>
public interface IFunctionIndex
{
    /// <summary>Functions of an account by name, starting with <paramref name="prefix"/>, after <paramref name="after"/>.</summary>
    Task<IReadOnlyList<FunctionState>> ListAsync(string account, string prefix, string? after, int limit, CancellationToken cancellationToken);
}

/// <summary>An ended task whose wake time has come.</summary>
/// <param name="Key">The task.</param>
/// <param name="WakeAt">Its wake time in ms since the epoch.</param>
public readonly record struct DueDelivery(TaskKey Key, long WakeAt);

/// <summary>Reads over tasks whose message was given up.</summary>
public interface IDeadLetterIndex
{
    /// <summary>One page, the earliest given up first.</summary>
    /// <param name="account">Owner.</param>
    /// <param name="function">Only of this function, or null for all.</param>
    /// <param name="before">Only those given up before this, or null for all.</param>
    /// <param name="token">Token of the page before, or null.</param>
    /// <param name="limit">Page size.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <exception cref="FormatException">The token is not one of ours.</exception>
    Task<(IReadOnlyList<TaskState> Tasks, string? NextToken)> ListAsync(
        string account, string? function, DateTimeOffset? before, string? token, int limit, CancellationToken cancellationToken);
}
