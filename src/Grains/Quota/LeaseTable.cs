using GpuTasks.Nodes;

namespace GpuTasks.Quota;

/// <summary>How an attempt to lease ended.</summary>
public enum LeaseOutcome
{
    /// <summary>The lease stands; also the answer to a repeat.</summary>
    Granted = 0,

    /// <summary>A card has too little free memory, belongs to another account, or takes nothing new.</summary>
    CardBusy = 1,

    /// <summary>The node has too few processors, or too little memory or disk, or is drained.</summary>
    NodeFull = 2,
}

/// <summary>A card and its fencing number. It stays in the table when the card is gone: the number must never start again.</summary>
/// <param name="Report">The card as its node last described it.</param>
/// <param name="Epoch">Rises with every grant and every end of a lease on the card.</param>
/// <param name="Present">False while the node no longer reports the card.</param>
/// <param name="Drained">Set while an operator wants the card empty.</param>
public sealed record CardRecord(CardReport Report, long Epoch, bool Present, Drain? Drained = null);

/// <summary>
/// One node's leases and fencing numbers: the stored row of a node, JSON by property name, so a rename is a migration.
/// </summary>
public sealed record LeaseTable
{
    /// <summary>Node name.</summary>
    public required string Node { get; init; }

    /// <summary>Which taking-over of the region wrote the row: see <see cref="RegionIndex.Term"/>.</summary>
    public long Term { get; init; }

    /// <summary>Boot that the leases belong to.</summary>
    public string BootId { get; init; } = "";

    /// <summary>Processors that instances may use, in thousandths.</summary>
    public int CpuMilli { get; init; }

    /// <summary>Memory that instances may use.</summary>
    public int MemoryMiB { get; init; }

    /// <summary>Disk that instances may use.</summary>
    public int DiskMiB { get; init; }

    /// <summary>Set while an operator wants the node empty.</summary>
    public Drain? Drained { get; init; }

    /// <summary>Every card the node ever reported.</summary>
    public IReadOnlyList<CardRecord> Cards { get; init; } = [];

    /// <summary>Rises with every grant and every end of a lease on the node.</summary>
    public long Epoch { get; init; }

    /// <summary>Leases that hold.</summary>
    public IReadOnlyList<Lease> Leases { get; init; } = [];

    /// <summary>Quota share of a part of a card: thousandths, rounded up; 1,000 for the whole.</summary>
    public static int MilliCards(int memoryMiB, int cardMiB) => (int)(((1000L * memoryMiB) + cardMiB - 1) / cardMiB);

    /// <summary>Enters a lease; <paramref name="wanted"/> has everything but fencing numbers.</summary>
    public (LeaseTable Next, LeaseOutcome Outcome, Lease? Lease) Acquire(Lease wanted)
    {
        // The first answer may have been lost.
        if (Find(wanted.InstanceId) is { } mine)
        {
            return (this, LeaseOutcome.Granted, mine);
        }

        if (Drained is not null
            || Leases.Sum(l => (long)l.CpuMilli) + wanted.CpuMilli > CpuMilli
            || Leases.Sum(l => (long)l.MemoryMiB) + wanted.MemoryMiB > MemoryMiB
            || Leases.Sum(l => (long)l.DiskMiB) + wanted.DiskMiB > DiskMiB)
        {
            return (this, LeaseOutcome.NodeFull, null);
        }

        if (!wanted.Cards.All(share => CanTake(share, wanted.Account)))
        {
            return (this, LeaseOutcome.CardBusy, null);
        }

        var next = Raise(wanted);
        var lease = wanted with
        {
            NodeEpoch = next.Epoch,
            Cards = [.. wanted.Cards.Select(share => share with { Epoch = next.Cards.First(c => c.Report.Uuid == share.Uuid).Epoch })],
        };
        return (next with { Leases = [.. Leases, lease] }, LeaseOutcome.Granted, lease);
    }

    /// <summary>Ends a lease; the same table if there is none of that name.</summary>
    public LeaseTable End(string instanceId) => Find(instanceId) is { } lease
        ? Raise(lease) with { Leases = [.. Leases.Where(l => l.InstanceId != instanceId)] }
        : this;

    /// <summary>
    /// Takes over what the node says of itself. A new boot proves that what ran before is gone: leases whose instances
    /// it does not list end. Before the node has adopted, its list proves nothing, and the old boot stands.
    /// </summary>
    public LeaseTable Adopt(NodeReport report)
    {
        var next = this;
        if (report.Adopted && report.BootId != BootId)
        {
            next = Leases.Where(l => BootId.Length > 0 && !report.Instances.Contains(l.InstanceId))
                .Aggregate(next, (table, lease) => table.End(lease.InstanceId)) with { BootId = report.BootId };
        }

        var cards = next.Cards.Select(known => report.Cards.FirstOrDefault(c => c.Uuid == known.Report.Uuid) is { } now
                ? known with { Report = now, Present = true }
                : known with { Present = false })
            .Concat(report.Cards.Where(c => next.Cards.All(known => known.Report.Uuid != c.Uuid)).Select(c => new CardRecord(c, 0, true)))
            .ToList();
        if (report.NodeEpoch > next.Epoch && report.Instances.All(id => report.Held.Any(lease => lease.InstanceId == id)))
        {
            return (next with { Cards = cards, CpuMilli = report.CpuMilli, MemoryMiB = report.MemoryMiB, DiskMiB = report.DiskMiB }).TakeOver(report);
        }

        var same = ReferenceEquals(next, this) && cards.SequenceEqual(Cards)
            && (report.CpuMilli, report.MemoryMiB, report.DiskMiB) == (CpuMilli, MemoryMiB, DiskMiB);
        return same ? this : next with { Cards = cards, CpuMilli = report.CpuMilli, MemoryMiB = report.MemoryMiB, DiskMiB = report.DiskMiB };
    }

    /// <summary>The drain that a lease must leave for, the one with the nearer deadline if there are several; null if it may stay.</summary>
    public Drain? DrainOf(Lease lease)
    {
        var drain = Drained;
        foreach (var card in Cards)
        {
            if (card.Drained is { } own && (drain is null || (own.Deadline ?? DateTimeOffset.MaxValue) < (drain.Deadline ?? DateTimeOffset.MaxValue))
                && lease.Cards.Any(share => share.Uuid == card.Report.Uuid))
            {
                drain = own;
            }
        }

        return drain;
    }

    /// <summary>The lease of an instance, or null.</summary>
    public Lease? Find(string instanceId)
    {
        foreach (var lease in Leases)
        {
            if (lease.InstanceId == instanceId)
            {
                return lease;
            }
        }

        return null;
    }

    /// <summary>
    /// Numbers are written before a node hears of them, so a node with a higher one proves that this row is of an earlier time: the
    /// store was restored from a backup. What the node has keeps its lease, and numbers go on above all that were ever given. The node
    /// states what it holds only once the tasks of its runs know of them, so nobody begins those again by this row.
    /// </summary>
    private LeaseTable TakeOver(NodeReport report) => this with
    {
        Epoch = report.NodeEpoch + 1,
        Cards = [.. Cards.Select(card => card with
        {
            Epoch = 1 + report.Held.SelectMany(lease => lease.Cards).Where(share => share.Uuid == card.Report.Uuid).Select(share => share.Epoch).Append(card.Epoch).Max(),
        })],
        Leases = [.. Leases, .. report.Held.Where(lease => Find(lease.InstanceId) is null).Select(lease => lease with { TakenOver = true })],
    };

    private bool CanTake(CardShare share, string account)
    {
        if (Cards.FirstOrDefault(c => c.Report.Uuid == share.Uuid) is not { Present: true, Drained: null, Report: { State: CardState.Ready } card })
        {
            return false;
        }

        var used = 0L;
        foreach (var lease in Leases)
        {
            foreach (var held in lease.Cards)
            {
                if (held.Uuid == share.Uuid)
                {
                    // A fault or a hang on a shared card must stay inside one customer.
                    if (lease.Account != account)
                    {
                        return false;
                    }

                    used += held.MemoryMiB;
                }
            }
        }

        return used + share.MemoryMiB <= card.MemoryMiB;
    }

    private LeaseTable Raise(Lease lease) => this with
    {
        Epoch = Epoch + 1,
        Cards = lease.Cards.Count == 0
            ? Cards
            : [.. Cards.Select(card => lease.Cards.Any(share => share.Uuid == card.Report.Uuid) ? card with { Epoch = card.Epoch + 1 } : card)],
    };
}
