using Orleans.Concurrency;

namespace GpuTasks.Tasks;

/// <summary>Filters of ListAsyncTasks (contract 2.4).</summary>
[GenerateSerializer, Immutable, Alias("GpuTasks.TaskQuery")]
public sealed record TaskQuery
{
    /// <summary>Function whose tasks are asked for.</summary>
    [Id(0)] public required string Function { get; init; }

    /// <summary>Only this status, or null for all.</summary>
    [Id(1)] public GpuTaskStatus? Status { get; init; }

    /// <summary>Only ids that start with this, or null.</summary>
    [Id(2)] public string? Prefix { get; init; }

    /// <summary>Earliest time of acceptance, inclusive, in ms since the epoch, or null.</summary>
    [Id(3)] public long? StartedFromMs { get; init; }

    /// <summary>Latest time of acceptance, inclusive, in ms since the epoch, or null.</summary>
    [Id(4)] public long? StartedToMs { get; init; }

    /// <summary>Only this qualifier, or null for all.</summary>
    [Id(5)] public string? Qualifier { get; init; }

    /// <summary>Oldest first instead of the default newest first.</summary>
    [Id(6)] public bool Ascending { get; init; }

    /// <summary>Page size: 1 to 100, default 20.</summary>
    [Id(7)] public int Limit { get; init; } = 20;

    /// <summary>Where the last page ended, as given back by it, or null for the first page.</summary>
    [Id(8)] public string? NextToken { get; init; }

    /// <summary>Whether payload and result come along.</summary>
    [Id(9)] public bool IncludePayload { get; init; }
}

/// <summary>One page of a list.</summary>
/// <param name="Tasks">In the order asked for.</param>
/// <param name="NextToken">Opaque; null on the last page.</param>
[GenerateSerializer, Immutable, Alias("GpuTasks.TaskPage")]
public sealed record TaskPage(
    [property: Id(0)] IReadOnlyList<TaskSnapshot> Tasks,
    [property: Id(1)] string? NextToken);

/// <summary>How many tasks stand where.</summary>
/// <param name="ByStatus">Every status that occurs with its number of recorded tasks.</param>
[GenerateSerializer, Immutable, Alias("GpuTasks.TaskCounts")]
public sealed record TaskCounts([property: Id(0)] IReadOnlyDictionary<GpuTaskStatus, long> ByStatus);

/// <summary>Lists and counts over the task index. Stateless; key: account id, which is all it can see.</summary>
[Alias("GpuTasks.ITaskQueryGrain")]
public interface ITaskQueryGrain : IGrainWithStringKey
{
    /// <summary>One page of a function's tasks.</summary>
    /// <exception cref="FormatException">The token was not made by an earlier page of the same order.</exception>
    [Alias("List"), ReadOnly]
    Task<TaskPage> List(TaskQuery query, CancellationToken cancellationToken = default);

    /// <summary>Live counts of a function's tasks.</summary>
    [Alias("Count"), ReadOnly]
    Task<TaskCounts> Count(string function, CancellationToken cancellationToken = default);
}
