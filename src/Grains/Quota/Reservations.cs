using GpuTasks.Quota.Placement;

namespace GpuTasks.Quota;

/// <summary>A node kept for a demand that many small ones would otherwise pass for ever.</summary>
/// <param name="Demand">For whom.</param>
/// <param name="Node">Which node.</param>
/// <param name="ClearAt">When enough of it is clear if every run there lasts as long as it may.</param>
internal sealed record Reservation(Demand Demand, string Node, DateTimeOffset ClearAt)
{
    /// <summary>Whether another may still use the node: only if it is gone again by then.</summary>
    public bool Admits(Demand other, DateTimeOffset now) => ReferenceEquals(other, Demand) || now + other.RunLimit <= ClearAt;

    /// <summary>Whether an instance there must take no further run: one begun now might outlast the moment.</summary>
    public bool Calls(Lease lease, DateTimeOffset now) => now + Limit(lease) > ClearAt;

    /// <summary>When a node can take a request at the latest, if nothing new comes there, and which leases must end for it.</summary>
    /// <param name="table">Leases of the node.</param>
    /// <param name="whole">What the node has without leases.</param>
    /// <param name="shape">What is asked for.</param>
    /// <param name="now">The moment.</param>
    /// <returns>Null if the node is too small for it.</returns>
    public static (DateTimeOffset ClearAt, IReadOnlyList<Lease> Awaits)? ClearFor(LeaseTable table, NodeRoom whole, Shape shape, DateTimeOffset now)
    {
        if (!whole.Fits(shape, ""))
        {
            return null;
        }

        var cards = CardsSoonestClear(table, whole, shape, now);
        var awaits = new List<Lease>();
        var (cpu, memory, disk) = (whole.CpuMilli, whole.MemoryMiB, whole.DiskMiB);
        foreach (var lease in table.Leases)
        {
            if (lease.Cards.Any(share => cards.Contains(share.Uuid)))
            {
                awaits.Add(lease);
            }
            else
            {
                cpu -= lease.CpuMilli;
                memory -= lease.MemoryMiB;
                disk -= lease.DiskMiB;
            }
        }

        // The cards alone may not be enough: whoever else ends soonest must make room as well.
        foreach (var lease in table.Leases.Except(awaits).OrderBy(l => EndOf(l, now)).ToList())
        {
            if (cpu >= shape.CpuMilli && memory >= shape.MemoryMiB && disk >= shape.DiskMiB)
            {
                break;
            }

            cpu += lease.CpuMilli;
            memory += lease.MemoryMiB;
            disk += lease.DiskMiB;
            awaits.Add(lease);
        }

        return (awaits.Select(l => EndOf(l, now)).DefaultIfEmpty(now).Max(), awaits);
    }

    private static HashSet<string> CardsSoonestClear(LeaseTable table, NodeRoom whole, Shape shape, DateTimeOffset now)
    {
        if (shape.GpuMiB == 0)
        {
            return [];
        }

        var ends = new Dictionary<string, DateTimeOffset>();
        foreach (var lease in table.Leases)
        {
            var end = EndOf(lease, now);
            foreach (var share in lease.Cards)
            {
                ends[share.Uuid] = ends.TryGetValue(share.Uuid, out var other) && other > end ? other : end;
            }
        }

        return whole.Cards.Where(c => (c.Type & shape.Types) != 0)
            .GroupBy(c => (c.Type, c.SizeMiB))
            .Where(like => shape.CutOn(like.Key.SizeMiB).Cards is > 0 and var count && like.Count() >= count)
            .Select(like => like.OrderBy(c => ends.GetValueOrDefault(c.Uuid, now)).Take(shape.CutOn(like.Key.SizeMiB).Cards).ToList())
            .MinBy(set => set.Max(c => ends.GetValueOrDefault(c.Uuid, now)))!
            .Select(c => c.Uuid).ToHashSet();
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
