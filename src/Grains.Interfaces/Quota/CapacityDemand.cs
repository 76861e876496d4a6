namespace GpuTasks.Quota;

/// <summary>What one instance needs of a node.</summary>
/// <param name="GpuType">Card type, or null for none.</param>
/// <param name="GpuMemoryMiB">GPU memory, 0 for none; a part of one card, one card, or a multiple of one card's.</param>
/// <param name="CpuMilli">Processors, in thousandths.</param>
/// <param name="MemoryMiB">Memory.</param>
/// <param name="DiskMiB">Disk.</param>
[GenerateSerializer, Immutable, Alias("GpuTasks.InstanceShape")]
public sealed record InstanceShape(
    [property: Id(0)] string? GpuType,
    [property: Id(1)] int GpuMemoryMiB,
    [property: Id(2)] int CpuMilli,
    [property: Id(3)] int MemoryMiB,
    [property: Id(4)] int DiskMiB);

/// <summary>What a function wants of its region: stated again every few seconds and at each change.</summary>
[GenerateSerializer, Immutable, Alias("GpuTasks.CapacityDemand")]
public sealed record CapacityDemand
{
    /// <summary>Owner of the function.</summary>
    [Id(0)] public required string Account { get; init; }

    /// <summary>Function.</summary>
    [Id(1)] public required string Function { get; init; }

    /// <summary>What each instance needs.</summary>
    [Id(2)] public required InstanceShape Shape { get; init; }

    /// <summary>Instances wanted beyond those already leased; 0 withdraws the demand.</summary>
    [Id(3)] public required int MoreInstances { get; init; }

    /// <summary>Acceptance of the task that has waited longest, or null.</summary>
    [Id(4)] public DateTimeOffset? OldestWaitingSince { get; init; }

    /// <summary>Highest priority class among the waiting: 0 to 9.</summary>
    [Id(5)] public int Priority { get; init; }

    /// <summary>Longest run of one attempt, which bounds how long a grant can block a reservation.</summary>
    [Id(6)] public TimeSpan RunLimit { get; init; }

    /// <summary>Node to avoid after a failure there, or null.</summary>
    [Id(7)] public string? AvoidNode { get; init; }

    /// <summary>
    /// Leases the function knew of when it counted <see cref="MoreInstances"/>, so that grants it had not heard of yet
    /// are not given twice. Null: all that it holds.
    /// </summary>
    [Id(8)] public int? HeldInstances { get; init; }

    /// <summary>
    /// Instances that are to be there whether or not anything waits. While fewer are held, the demand goes ahead of the
    /// account's other ones; and so many are never asked to yield. Default 0.
    /// </summary>
    [Id(9)] public int Provisioned { get; init; }

    /// <summary>Instances whose part of the account's quota no other function may take. Default 0.</summary>
    [Id(10)] public int Reserved { get; init; }
}

/// <summary>Why a demand could not be met in full.</summary>
public enum WaitReason
{
    /// <summary>It was met, or nothing was asked for.</summary>
    None = 0,

    /// <summary>The account's milli-cards are used up.</summary>
    Quota = 1,

    /// <summary>No live node has a card of the type, or none as large.</summary>
    NoCardOfType = 2,

    /// <summary>All cards of the type are taken.</summary>
    NoFreeCard = 3,

    /// <summary>No node has the processors, memory or disk.</summary>
    NoRoomOnNode = 4,

    /// <summary>No node is alive.</summary>
    NoNode = 5,

    /// <summary>Others are ahead.</summary>
    Behind = 6,

    /// <summary>There is room, but it is kept for one that waits longer and needs more at once.</summary>
    KeptForOther = 7,

    /// <summary>What could serve is being drained by an operator.</summary>
    Drained = 8,

    /// <summary>There are cards of the type, but none of them is fit for new work.</summary>
    CardsUnfit = 9,

    /// <summary>Enough is free in sum, but not on one card, or not on one node.</summary>
    Fragmented = 10,

    /// <summary>The region has just begun and first hears what its nodes run. The answer says nothing about leases.</summary>
    NodesUnheard = 11,
}

/// <summary>What is missing for one more instance, of the thing that <see cref="WaitReason"/> names; 0 for what is not.</summary>
/// <param name="MilliCards">Quota, in milli-cards.</param>
/// <param name="GpuMiB">GPU memory on one card.</param>
/// <param name="Cards">Empty cards on one node.</param>
/// <param name="CpuMilli">Processors, in thousandths.</param>
/// <param name="MemoryMiB">Memory.</param>
/// <param name="DiskMiB">Disk.</param>
[GenerateSerializer, Immutable, Alias("GpuTasks.CapacityShort")]
public sealed record CapacityShort(
    [property: Id(0)] int MilliCards = 0,
    [property: Id(1)] int GpuMiB = 0,
    [property: Id(2)] int Cards = 0,
    [property: Id(3)] long CpuMilli = 0,
    [property: Id(4)] long MemoryMiB = 0,
    [property: Id(5)] long DiskMiB = 0)
{
    /// <summary>Nothing is missing, or it is not an amount.</summary>
    public static CapacityShort Nothing { get; } = new();
}

/// <summary>The region's answer to a demand.</summary>
/// <param name="Leases">Every lease the function holds now, not only new ones.</param>
/// <param name="Reason">Why there are not more.</param>
/// <param name="Detail">The reason in words with the amount short, or empty.</param>
[GenerateSerializer, Immutable, Alias("GpuTasks.DemandAnswer")]
public sealed record DemandAnswer(
    [property: Id(0)] IReadOnlyList<Lease> Leases,
    [property: Id(1)] WaitReason Reason,
    [property: Id(2)] string Detail)
{
    /// <summary>
    /// Instances that must take no further run and leave when their present runs have ended, because others are
    /// entitled to what they hold. Stop them without force.
    /// </summary>
    [Id(3)] public IReadOnlyList<string> Yield { get; init; } = [];

    /// <summary>Place of the demand among all that wait in the region, from 1; 0 if it does not wait.</summary>
    [Id(4)] public int Rank { get; init; }

    /// <summary>Instances that must end now, with their runs: what they are on is drained and its deadline has passed.</summary>
    [Id(5)] public IReadOnlyList<string> Evict { get; init; } = [];

    /// <summary>How much is missing.</summary>
    [Id(6)] public CapacityShort Missing { get; init; } = CapacityShort.Nothing;

    /// <summary>Place of the demand among those of its account, from 1; 0 if it does not wait.</summary>
    [Id(7)] public int RankInAccount { get; init; }
}

/// <summary>An account's share of the region.</summary>
/// <param name="Account">Account id.</param>
/// <param name="LimitMilliCards">Most it may hold; default 30,000, which is 30 cards.</param>
/// <param name="HeldMilliCards">What its leases hold now.</param>
/// <param name="Instances">Number of its leases.</param>
/// <param name="Weight">Its part when cards are short, against other accounts' weights: 1 to 1,000, default 1.</param>
[GenerateSerializer, Immutable, Alias("GpuTasks.QuotaStatus")]
public sealed record QuotaStatus(
    [property: Id(0)] string Account,
    [property: Id(1)] int LimitMilliCards,
    [property: Id(2)] int HeldMilliCards,
    [property: Id(3)] int Instances,
    [property: Id(4)] int Weight = 1);
