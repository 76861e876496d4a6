using GpuTasks.Quota.Placement;

namespace GpuTasks.Quota;

/// <summary>When a node can take a request at the latest, if nothing new comes there.</summary>
/// <param name="At">The moment, if every run there lasts as long as it may.</param>
/// <param name="Cards">Cards that the request would get.</param>
/// <param name="Awaits">Leases that must end for it.</param>
internal sealed record Clearance(DateTimeOffset At, IReadOnlyList<string> Cards, IReadOnlyList<Lease> Awaits);

/// <summary>Cards of a node, kept for a demand that many small ones would otherwise pass for ever.</summary>
/// <param name="Demand">For whom.</param>
/// <param name="Node">Which node.</param>
/// <param name="Clear">When they are clear, and what must end for it.</param>
internal sealed record Reservation(Demand Demand, string Node, Clearance Clear)
{
    /// <summary>Room of the node without what is kept.</summary>
    public NodeRoom Without(NodeRoom room) => room with
    {
        CpuMilli = room.CpuMilli - Demand.Shape.CpuMilli,
        MemoryMiB = room.MemoryMiB - Demand.Shape.MemoryMiB,
        DiskMiB = room.DiskMiB - Demand.Shape.DiskMiB,
        Cards = [.. room.Cards.Select(card => Clear.Cards.Contains(card.Uuid) ? card with { Type = 0, FreeMiB = 0 } : card)],
    };

    /// <summary>Whether another may still use what is kept: only if it is gone again by then.</summary>
    public bool Admits(Demand other, DateTimeOffset now) => ReferenceEquals(other, Demand) || now + other.RunLimit <= Clear.At;

    /// <summary>Whether an instance there must take no further run: one begun now might outlast the moment.</summary>
    public bool Calls(Lease lease, DateTimeOffset now) => now + Limit(lease) > Clear.At;

    /// <summary>When a node can take a request at the latest, if nothing new comes there, and which leases must end for it.</summary>
    /// <param name="table">Leases of the node.</param>
    /// <param name="whole">What the node has without leases.</param>
    /// <param name="shape">What is asked for.</param>
    /// <param name="now">The moment.</param>
    /// <param name="before">Only an answer before this moment is of interest; null for any.</param>
    /// <returns>Null if the node is too small for it, or not clear before that moment.</returns>
    public static Clearance? ClearFor(LeaseTable table, NodeRoom whole, in Shape shape, DateTimeOffset now, DateTimeOffset? before = null)
    {
        if (!whole.Fits(shape, ""))
        {
            return null;
        }

        Span<DateTimeOffset> ends = stackalloc DateTimeOffset[whole.Cards.Length];
        ends.Fill(now);
        foreach (var lease in table.Leases)
        {
            var end = EndOf(lease, now);
            foreach (var share in lease.Cards)
            {
                var position = whole.PositionOf(share.Uuid);
                if (position >= 0 && ends[position] < end)
                {
                    ends[position] = end;
                }
            }
        }

        var (cards, cardsAt) = SoonestClear(whole, shape, ends);
        if (cardsAt >= before)
        {
            return null;
        }

        var at = now;
        var awaits = new List<Lease>();
        var others = new List<Lease>();
        var (cpu, memory, disk) = (whole.CpuMilli, whole.MemoryMiB, whole.DiskMiB);
        foreach (var lease in table.Leases)
        {
            if (HoldsAny(lease, cards))
            {
                Await(lease);
            }
            else
            {
                cpu -= lease.CpuMilli;
                memory -= lease.MemoryMiB;
                disk -= lease.DiskMiB;
                others.Add(lease);
            }
        }

        // The cards alone may not be enough: whoever else ends soonest must make room as well.
        while (cpu < shape.CpuMilli || memory < shape.MemoryMiB || disk < shape.DiskMiB)
        {
            var soonest = others.MinBy(l => EndOf(l, now))!;
            others.Remove(soonest);
            cpu += soonest.CpuMilli;
            memory += soonest.MemoryMiB;
            disk += soonest.DiskMiB;
            Await(soonest);
        }

        return at >= before ? null : new Clearance(at, cards, awaits);

        void Await(Lease lease)
        {
            awaits.Add(lease);
            at = EndOf(lease, now) is var end && end > at ? end : at;
        }
    }

    /// <summary>The cards that the request would get, of one type and size, whose last holder ends first.</summary>
    private static (string[] Cards, DateTimeOffset At) SoonestClear(NodeRoom whole, in Shape shape, ReadOnlySpan<DateTimeOffset> ends)
    {
        string[] best = [];
        var bestAt = DateTimeOffset.MaxValue;
        for (var kind = 0; shape.GpuMiB > 0 && kind < whole.Cards.Length; kind++)
        {
            var (count, _) = shape.CutOn(whole.Cards[kind].SizeMiB);
            if (whole.FirstLike(kind) != kind || count == 0 || whole.CountEmptyLike(kind, shape.Types) < count)
            {
                continue;
            }

            var like = whole.TakeEmptyLike(kind, whole.CountEmptyLike(kind, shape.Types));
            var at = new DateTimeOffset[like.Length];
            for (var i = 0; i < like.Length; i++)
            {
                at[i] = ends[like[i]];
            }

            Array.Sort(at, like);
            if (at[count - 1] < bestAt)
            {
                bestAt = at[count - 1];
                best = new string[count];
                for (var i = 0; i < count; i++)
                {
                    best[i] = whole.Cards[like[i]].Uuid;
                }
            }
        }

        return (best, best.Length == 0 ? DateTimeOffset.MinValue : bestAt);
    }

    private static bool HoldsAny(Lease lease, string[] cards)
    {
        foreach (var share in lease.Cards)
        {
            if (Array.IndexOf(cards, share.Uuid) >= 0)
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>An instance may run again and again; what it runs now ends at the next multiple of its limit at the latest.</summary>
    private static DateTimeOffset EndOf(Lease lease, DateTimeOffset now)
    {
        var limit = Limit(lease).Ticks;
        var age = Math.Max(0, (now - lease.GrantedAt).Ticks);
        return lease.GrantedAt + TimeSpan.FromTicks(((age / limit) + 1) * limit);
    }

    private static TimeSpan Limit(Lease lease) => lease.RunLimit > TimeSpan.Zero ? lease.RunLimit : TimeSpan.FromDays(1);
}
