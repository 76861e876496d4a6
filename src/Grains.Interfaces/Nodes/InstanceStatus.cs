using GpuTasks.Tasks;

namespace GpuTasks.Nodes;

/// <summary>Where an instance stands. Numbers never change.</summary>
public enum InstanceState
{
    /// <summary>Its image is pulled or its container made.</summary>
    Creating = 0,

    /// <summary>Its server starts, its health check or initializer runs.</summary>
    Starting = 1,

    /// <summary>Takes runs.</summary>
    Ready = 2,

    /// <summary>Finishes its runs and takes no more.</summary>
    Retiring = 3,

    /// <summary>Is being stopped.</summary>
    Stopping = 4,

    /// <summary>The container is gone; its lease is released once its cards are proved clean.</summary>
    Gone = 5,
}

/// <summary>Why an instance could not start or did not last.</summary>
/// <param name="Outcome">Class, which decides about retries.</param>
/// <param name="Message">For people.</param>
[GenerateSerializer, Immutable, Alias("GpuTasks.LaunchFailure")]
public sealed record LaunchFailure(
    [property: Id(0)] RunOutcome Outcome,
    [property: Id(1)] string Message);

/// <summary>How far an image has come.</summary>
/// <param name="Layers">Layers that are known; more may follow.</param>
/// <param name="LayersDone">Of them those that are unpacked, or were here before.</param>
/// <param name="Bytes">Bytes fetched.</param>
/// <param name="TotalBytes">Bytes of the layers whose size is known by now.</param>
[GenerateSerializer, Immutable, Alias("GpuTasks.PullProgress")]
public sealed record PullProgress(
    [property: Id(0)] int Layers,
    [property: Id(1)] int LayersDone,
    [property: Id(2)] long Bytes,
    [property: Id(3)] long TotalBytes);

/// <summary>One instance as its node sees it.</summary>
[GenerateSerializer, Immutable, Alias("GpuTasks.InstanceStatus")]
public sealed record InstanceStatus
{
    /// <summary>Identity, equal to its lease's.</summary>
    [Id(0)] public required string InstanceId { get; init; }

    /// <summary>Node.</summary>
    [Id(1)] public required string Node { get; init; }

    /// <summary>Where it stands.</summary>
    [Id(2)] public required InstanceState State { get; init; }

    /// <summary>Revision of the function's definition that it was launched with.</summary>
    [Id(3)] public int Revision { get; init; }

    /// <summary>Ids of the runs it has accepted and whose end is not yet acknowledged.</summary>
    [Id(4)] public IReadOnlyList<string> Runs { get; init; } = [];

    /// <summary>Why it failed, or null.</summary>
    [Id(5)] public LaunchFailure? Failure { get; init; }

    /// <summary>When it was launched.</summary>
    [Id(6)] public DateTimeOffset CreatedAt { get; init; }

    /// <summary>Grows with every change on the node, so that an older message is recognised.</summary>
    [Id(7)] public long Version { get; init; }

    /// <summary>True while its image is fetched from a registry.</summary>
    [Id(12)] public bool PullingImage { get; init; }

    /// <summary>Its image by the digest that its registry knows it by; null for an image that came from no registry.</summary>
    [Id(13)] public string? ResolvedImage { get; init; }

    /// <summary>True once it is known that its relay streams bodies and answers.</summary>
    [Id(14)] public bool Streams { get; init; }

    /// <summary>How far its image has come while it is fetched, else null.</summary>
    [Id(15)] public PullProgress? Pull { get; init; }

    /// <summary>True once it was ready: a failure after that is no failed launch. An older agent leaves it false.</summary>
    [Id(16)] public bool WasReady { get; init; }
}
