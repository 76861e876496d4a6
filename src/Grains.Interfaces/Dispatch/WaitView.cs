using GpuTasks.Quota;

namespace GpuTasks.Dispatch;

/// <summary>Why a task waits. The names are part of the interface under <c>/v1</c>; numbers never change.</summary>
public enum TaskWaitReason
{
    /// <summary>It could not be found out just now.</summary>
    Unknown = 0,

    /// <summary>A slot was given to it; its run is being handed over.</summary>
    SlotGiven = 1,

    /// <summary>Every slot of the function's instances is taken, and it asks for no more of them.</summary>
    NoFreeSlot = 2,

    /// <summary>An instance that will serve it fetches its image.</summary>
    ImagePulling = 3,

    /// <summary>An instance that will serve it starts.</summary>
    InstanceStarting = 4,

    /// <summary>Instances of the function failed to start; the next try follows after a pause.</summary>
    LaunchBackoff = 5,

    /// <summary>Its last attempt failed; the next one follows after a pause.</summary>
    Backoff = 6,

    /// <summary>The function takes no calls until it is enabled again.</summary>
    FunctionDisabled = 7,

    /// <summary>The function is gone; the task becomes Invalid.</summary>
    FunctionDeleted = 8,

    /// <summary>The function runs as much at once as its concurrency config permits.</summary>
    ConcurrencyLimit = 9,

    /// <summary>The function runs on provisioned instances alone, and there are no more of them.</summary>
    OnDemandOff = 10,

    /// <summary>The account's milli-cards are used up.</summary>
    Quota = 20,

    /// <summary>No live node has a card of the type, or none as large.</summary>
    NoCardOfType = 21,

    /// <summary>All cards of the type are taken.</summary>
    NoFreeCard = 22,

    /// <summary>Enough is free in sum, but not on one card, or not on one node.</summary>
    Fragmentation = 23,

    /// <summary>No node has the processors, memory or disk.</summary>
    NoRoomOnNode = 24,

    /// <summary>No node is alive.</summary>
    NoNode = 25,

    /// <summary>Others are ahead.</summary>
    Behind = 26,

    /// <summary>There is room, but it is kept for one that waits longer and needs more at once.</summary>
    KeptForOlder = 27,

    /// <summary>What could serve is being drained by an operator.</summary>
    NodeDrained = 28,

    /// <summary>There are cards of the type, but none of them is fit for new work.</summary>
    CardsUnfit = 29,

    /// <summary>The region has just begun and first hears what its nodes run, for 15 s at most.</summary>
    NodesUnheard = 30,
}

/// <summary>Why a task waits, as its function's queue sees it. It says nothing about other accounts.</summary>
[GenerateSerializer, Immutable, Alias("GpuTasks.WaitView")]
public sealed record WaitView
{
    /// <summary>Code.</summary>
    [Id(0)] public required TaskWaitReason Reason { get; init; }

    /// <summary>The reason in words.</summary>
    [Id(1)] public required string Detail { get; init; }

    /// <summary>How much is missing.</summary>
    [Id(2)] public CapacityShort Missing { get; init; } = CapacityShort.Nothing;

    /// <summary>Place in the function's queue, from 1, as the store had it at this moment: exact however long the queue is.</summary>
    [Id(3)] public long Rank { get; init; }

    /// <summary>Place of the function among those of its account that wait for cards or room, from 1; 0 if it does not wait for any.</summary>
    [Id(4)] public int FunctionRank { get; init; }

    /// <summary>When it may begin, or null if that cannot be told.</summary>
    [Id(5)] public DateTimeOffset? EstimatedStart { get; init; }

    /// <summary>What the estimate is made from, or why there is none.</summary>
    [Id(6)] public string EstimateBasis { get; init; } = "";
}
