using GpuTasks.Nodes;

namespace GpuTasks.Quota;

/// <summary>A lease's part of one card.</summary>
/// <param name="Uuid">Card identity.</param>
/// <param name="MemoryMiB">GPU memory granted on it.</param>
/// <param name="MilliCards">Share that counts against the quota: 1,000 for a whole card, else rounded up.</param>
/// <param name="Epoch">Fencing number of the card at the grant; only grows.</param>
/// <param name="Enforcement">Who keeps the lease within its memory, as the node said at the grant; null if it was granted before that was noted.</param>
[GenerateSerializer, Immutable, Alias("GpuTasks.CardShare")]
public sealed record CardShare(
    [property: Id(0)] string Uuid,
    [property: Id(1)] int MemoryMiB,
    [property: Id(2)] int MilliCards,
    [property: Id(3)] long Epoch,
    [property: Id(4)] MemoryEnforcement? Enforcement = null);

/// <summary>The right of one instance to use cards and room of one node. It ends by proof, not by clock.</summary>
[GenerateSerializer, Immutable, Alias("GpuTasks.Lease")]
public sealed record Lease
{
    /// <summary>Identity; also the instance's id and the container's name.</summary>
    [Id(0)] public required string InstanceId { get; init; }

    /// <summary>Owner of the function.</summary>
    [Id(1)] public required string Account { get; init; }

    /// <summary>Function the instance serves.</summary>
    [Id(2)] public required string Function { get; init; }

    /// <summary>Node it is good for.</summary>
    [Id(3)] public required string Node { get; init; }

    /// <summary>Shares of cards; empty for a function without GPU.</summary>
    [Id(4)] public IReadOnlyList<CardShare> Cards { get; init; } = [];

    /// <summary>Processors granted, in thousandths.</summary>
    [Id(5)] public int CpuMilli { get; init; }

    /// <summary>Memory granted.</summary>
    [Id(6)] public int MemoryMiB { get; init; }

    /// <summary>Disk granted.</summary>
    [Id(7)] public int DiskMiB { get; init; }

    /// <summary>When it was granted.</summary>
    [Id(8)] public DateTimeOffset GrantedAt { get; init; }

    /// <summary>Fencing number of the node at the grant: grows with every grant and reclaim on the node.</summary>
    [Id(9)] public long NodeEpoch { get; init; }

    /// <summary>Longest run of the function when it was granted: bounds how long the lease can block others.</summary>
    [Id(10)] public TimeSpan RunLimit { get; init; }

    /// <summary>True if it was entered by its node's word, because the store had been set back to an earlier time.</summary>
    [Id(11)] public bool TakenOver { get; init; }

    /// <summary>Sum of the shares, in milli-cards.</summary>
    public int MilliCards => Cards.Sum(card => card.MilliCards);
}
