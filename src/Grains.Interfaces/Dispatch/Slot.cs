using GpuTasks.Nodes;

namespace GpuTasks.Dispatch;

/// <summary>A waiting task's place in its function's queue: higher priority first, then earlier, then by id.</summary>
/// <param name="TaskId">Task id.</param>
/// <param name="Priority">Class 0 to 9.</param>
/// <param name="EnqueuedAt">When it was accepted; a retried task keeps its place.</param>
[GenerateSerializer, Immutable, Alias("GpuTasks.Ticket")]
public readonly record struct Ticket(
    [property: Id(0)] string TaskId,
    [property: Id(1)] int Priority,
    [property: Id(2)] DateTimeOffset EnqueuedAt);

/// <summary>One place for a run in an instance, offered to one task or synchronous call.</summary>
[GenerateSerializer, Immutable, Alias("GpuTasks.SlotAssignment")]
public sealed record SlotAssignment
{
    /// <summary>Unique for each offer, so that a repeat is recognised.</summary>
    [Id(0)] public required string SlotId { get; init; }

    /// <summary>Node that holds the instance.</summary>
    [Id(1)] public required string Node { get; init; }

    /// <summary>Instance that holds the slot.</summary>
    [Id(2)] public required string InstanceId { get; init; }

    /// <summary>Longest run of the attempt, from the function's definition at this moment.</summary>
    [Id(3)] public required TimeSpan RunLimit { get; init; }

    /// <summary>Revision of the definition that the instance runs.</summary>
    [Id(4)] public required int Revision { get; init; }

    /// <summary>After how long without contact the instance ends the run by itself; zero: never.</summary>
    [Id(5)] public TimeSpan NodeLostTimeout { get; init; }
}

/// <summary>Answer to a synchronous call that asks for a slot. Both null: none came free yet, ask again.</summary>
/// <param name="Slot">The slot, or null.</param>
/// <param name="Failure">Why there will be none, or null.</param>
[GenerateSerializer, Immutable, Alias("GpuTasks.SlotAnswer")]
public sealed record SlotAnswer(
    [property: Id(0)] SlotAssignment? Slot,
    [property: Id(1)] LaunchFailure? Failure)
{
    /// <summary>Whether runs in the slot can stream bodies and answers.</summary>
    [Id(2)] public bool Streams { get; init; }
}
