using GpuTasks.Quota;

namespace GpuTasks.Nodes;

/// <summary>Whether a card may be leased, and if not, why. Numbers never change.</summary>
public enum CardState
{
    /// <summary>May take leases.</summary>
    Ready = 0,

    /// <summary>Finishes what it has; takes nothing new.</summary>
    Draining = 1,

    /// <summary>The earlier holder is not proved gone.</summary>
    Dirty = 2,

    /// <summary>Something is wrong that has not been explained.</summary>
    Suspect = 3,

    /// <summary>Broken until an operator or a reset says otherwise.</summary>
    Failed = 4,

    /// <summary>Used by somebody outside the platform.</summary>
    Foreign = 5,
}

/// <summary>Who keeps a lease within its part of a card's memory. Numbers never change.</summary>
public enum MemoryEnforcement
{
    /// <summary>Nobody: the card exists in configuration only.</summary>
    Simulated = 0,

    /// <summary>The node: it adds up what each lease uses and ends who stays above its part. Until then others may find the card full.</summary>
    Watched = 1,

    /// <summary>The card: it is a part divided by hardware (MIG), with memory and processors of its own.</summary>
    Hardware = 2,
}

/// <summary>One card as its node sees it.</summary>
[GenerateSerializer, Immutable, Alias("GpuTasks.CardReport")]
public sealed record CardReport
{
    /// <summary>Identity; stable over restarts.</summary>
    [Id(0)] public required string Uuid { get; init; }

    /// <summary>Type by the contract, such as <c>fc.gpu.tesla.1</c>.</summary>
    [Id(1)] public required string Type { get; init; }

    /// <summary>Product name.</summary>
    [Id(2)] public string Name { get; init; } = "";

    /// <summary>Memory that leases can share: total less what the driver reserves, or its type's size by the contract if it comes near that.</summary>
    [Id(3)] public required int MemoryMiB { get; init; }

    /// <summary>True for a card that exists in configuration only.</summary>
    [Id(4)] public bool Simulated { get; init; }

    /// <summary>Whether it may be leased.</summary>
    [Id(5)] public CardState State { get; init; }

    /// <summary>Why it may not, or empty.</summary>
    [Id(6)] public string Detail { get; init; } = "";

    /// <summary>Temperature in degrees Celsius; null if unknown.</summary>
    [Id(7)] public int? TemperatureCelsius { get; init; }

    /// <summary>Share of time in which anything ran on it, in per cent; null if unknown, as for MIG devices.</summary>
    [Id(8)] public int? UtilizationPercent { get; init; }

    /// <summary>Power in watts; null if unknown.</summary>
    [Id(9)] public double? PowerWatts { get; init; }

    /// <summary>Memory in use, without what the driver reserves where it tells; null if unknown.</summary>
    [Id(10)] public int? UsedMemoryMiB { get; init; }

    /// <summary>When the measurements were taken; null if never.</summary>
    [Id(11)] public DateTimeOffset? SampledAt { get; init; }

    /// <summary>True when newer measurements should be there by now: the driver hangs or is away.</summary>
    [Id(12)] public bool Stale { get; init; }

    /// <summary>NUMA node of its slot; null if unknown.</summary>
    [Id(13)] public int? NumaNode { get; init; }

    /// <summary>Cards of one node with an equal number reach each other by NVLink or over switches alone; null if unknown.</summary>
    [Id(14)] public int? LinkGroup { get; init; }

    /// <summary>Identity of the card of which this is a part divided by hardware; empty for a whole card.</summary>
    [Id(15)] public string Parent { get; init; } = "";

    /// <summary>Who keeps leases within their parts of its memory.</summary>
    [Id(16)] public MemoryEnforcement Enforcement { get; init; }

    /// <summary>Memory errors that were not corrected since the driver was loaded; null if the card does not count them.</summary>
    [Id(17)] public long? UncorrectedErrors { get; init; }

    /// <summary>Memory that is really there, less what the driver reserves; null if unknown.</summary>
    [Id(18)] public int? PhysicalMemoryMiB { get; init; }
}

/// <summary>What a node truly has, sent every 5 s and at each change.</summary>
[GenerateSerializer, Immutable, Alias("GpuTasks.NodeReport")]
public sealed record NodeReport
{
    /// <summary>Node name.</summary>
    [Id(0)] public required string Node { get; init; }

    /// <summary>Changes when the machine reboots: proof that everything that ran on it is gone.</summary>
    [Id(1)] public required string BootId { get; init; }

    /// <summary>Processors that instances may use, in thousandths.</summary>
    [Id(2)] public required int CpuMilli { get; init; }

    /// <summary>Memory that instances may use.</summary>
    [Id(3)] public required int MemoryMiB { get; init; }

    /// <summary>Disk that instances may use.</summary>
    [Id(4)] public required int DiskMiB { get; init; }

    /// <summary>Cards.</summary>
    [Id(5)] public IReadOnlyList<CardReport> Cards { get; init; } = [];

    /// <summary>Ids of the instances that exist on it in any form.</summary>
    [Id(6)] public IReadOnlyList<string> Instances { get; init; } = [];

    /// <summary>False until it has adopted what an earlier process left; it takes no launches before.</summary>
    [Id(7)] public bool Adopted { get; init; }

    /// <summary>What an operator should know about its cards and driver, in sentences.</summary>
    [Id(8)] public IReadOnlyList<string> Facts { get; init; } = [];

    /// <summary>Highest fencing number it was ever given; 0 if it does not tell.</summary>
    [Id(9)] public long NodeEpoch { get; init; }

    /// <summary>Leases of its instances; only told when the region's number was below its own.</summary>
    [Id(10)] public IReadOnlyList<Lease> Held { get; init; } = [];
}

/// <summary>What a node should have: the answer to its report.</summary>
/// <param name="Leases">Every lease on the node. An instance without one must leave.</param>
/// <param name="NodeEpoch">As of which fencing number this list is whole.</param>
[GenerateSerializer, Immutable, Alias("GpuTasks.NodeDirective")]
public sealed record NodeDirective(
    [property: Id(0)] IReadOnlyList<Lease> Leases,
    [property: Id(1)] long NodeEpoch);

/// <summary>An operator wants a node or a card empty: it takes nothing new, and instances leave after their present runs.</summary>
/// <param name="Since">Since when.</param>
/// <param name="Deadline">When runs that are still there are ended, at no cost to their tasks' attempts; null for never.</param>
[GenerateSerializer, Immutable, Alias("GpuTasks.Drain")]
public sealed record Drain(
    [property: Id(0)] DateTimeOffset Since,
    [property: Id(1)] DateTimeOffset? Deadline);

/// <summary>A node as the region sees it.</summary>
/// <param name="Report">Its latest report.</param>
/// <param name="Reachable">False after 15 s of silence: it gets nothing new, its leases stay counted.</param>
/// <param name="LastSeenAt">When it last reported.</param>
/// <param name="Leases">Its leases.</param>
/// <param name="CardEpochs">Fencing number of each card.</param>
[GenerateSerializer, Immutable, Alias("GpuTasks.NodeStatus")]
public sealed record NodeStatus(
    [property: Id(0)] NodeReport Report,
    [property: Id(1)] bool Reachable,
    [property: Id(2)] DateTimeOffset LastSeenAt,
    [property: Id(3)] IReadOnlyList<Lease> Leases,
    [property: Id(4)] IReadOnlyDictionary<string, long> CardEpochs)
{
    /// <summary>Set while the whole node is drained.</summary>
    [Id(5)] public Drain? Drained { get; init; }

    /// <summary>Cards that are drained by themselves.</summary>
    [Id(6)] public IReadOnlyDictionary<string, Drain> DrainedCards { get; init; } = new Dictionary<string, Drain>();
}
