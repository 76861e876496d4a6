using GpuTasks.Nodes;

namespace GpuTasks.Tasks;

/// <summary>All that a task needs to know about itself, fixed when it is accepted.</summary>
[GenerateSerializer, Immutable, Alias("GpuTasks.TaskSubmission")]
public sealed record TaskSubmission
{
    /// <summary>Id of the call that submitted it, as in <c>X-Fc-Request-Id</c>.</summary>
    [Id(0)] public required string RequestId { get; init; }

    /// <summary>Version or alias it was submitted to; <c>LATEST</c> by default.</summary>
    [Id(1)] public string Qualifier { get; init; } = "LATEST";

    /// <summary>The event, handed to the function unchanged: at most 128 KiB unless the operator allows more (contract 3).</summary>
    [Id(2)] public byte[] Payload { get; init; } = [];

    /// <summary>False for asynchronous calls without task mode: they run, but leave no record to query or list.</summary>
    [Id(3)] public bool Recorded { get; init; } = true;

    /// <summary>Class 0 (default) to 9; higher goes first.</summary>
    [Id(4)] public int Priority { get; init; }

    /// <summary>Further attempts after a counted failure: 0 to 8, default 3 (contract 3).</summary>
    [Id(5)] public int MaxRetryAttempts { get; init; } = 3;

    /// <summary>Longest wait in the queue: 1 s to 604,800 s, default 86,400 s (contract 3).</summary>
    [Id(6)] public TimeSpan MaxEventAge { get; init; } = TimeSpan.FromDays(1);

    /// <summary>Target that hears of a success, or null.</summary>
    [Id(7)] public string? OnSuccess { get; init; }

    /// <summary>Target that hears of a failure or expiry, or null.</summary>
    [Id(8)] public string? OnFailure { get; init; }

    /// <summary>Destinations that called one another before this submit: 0 for a caller's own. Bounds loops.</summary>
    [Id(9)] public int Hops { get; init; }

    /// <summary>HTTP request to hand on as it came, with <see cref="Payload"/> as its body; null for an event.</summary>
    [Id(20)] public HttpCall? Http { get; init; }

    /// <summary>Version whose definition runs it, or null for <c>LATEST</c>; an alias was resolved when the task was accepted.</summary>
    [Id(10)] public string? Version { get; init; }
}
