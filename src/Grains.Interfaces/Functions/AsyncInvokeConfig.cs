namespace GpuTasks.Functions;

/// <summary>Rules for asynchronous calls of one qualifier (contract 1.3 and 3).</summary>
[GenerateSerializer, Immutable, Alias("GpuTasks.AsyncInvokeConfig")]
public sealed record AsyncInvokeConfig
{
    /// <summary>Task mode: calls leave a record that can be queried, listed and stopped. Default false.</summary>
    [Id(0)] public bool TaskMode { get; init; }

    /// <summary>Further attempts after a counted failure: 0 to 8, default 3.</summary>
    [Id(1)] public int MaxRetryAttempts { get; init; } = 3;

    /// <summary>Longest wait in the queue: 1 s to 604,800 s, default 86,400 s.</summary>
    [Id(2)] public int MaxEventAgeSeconds { get; init; } = 86_400;

    /// <summary>Target that hears of a success, or null.</summary>
    [Id(3)] public string? OnSuccess { get; init; }

    /// <summary>Target that hears of a failure, or null.</summary>
    [Id(4)] public string? OnFailure { get; init; }

    /// <summary>When it was first put.</summary>
    [Id(5)] public DateTimeOffset CreatedAt { get; init; }

    /// <summary>When it was last put.</summary>
    [Id(6)] public DateTimeOffset ModifiedAt { get; init; }
}
