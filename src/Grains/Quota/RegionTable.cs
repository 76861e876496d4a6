using GpuTasks.Nodes;
using GpuTasks.Quota.Placement;

namespace GpuTasks.Quota;

/// <summary>Times and limits of a region.</summary>
public sealed record RegionRules
{
    /// <summary>Most an account may hold unless it is told otherwise: default 30,000 milli-cards, which is 30 cards.</summary>
    public int DefaultQuotaMilliCards { get; init; } = 30_000;

    /// <summary>A node silent for longer gets nothing new: default 15 s.</summary>
    public TimeSpan NodeSilence { get; init; } = TimeSpan.FromSeconds(15);

    /// <summary>A demand not stated again for so long is dropped: default 30 s.</summary>
    public TimeSpan DemandLapse { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>A lease whose instance its node never had is taken back after so long: default 90 s.</summary>
    public TimeSpan LaunchGrace { get; init; } = TimeSpan.FromSeconds(90);
}

/// <summary>What a step changed: rows to write, then functions to tell.</summary>
/// <param name="Nodes">Nodes whose row changed.</param>
/// <param name="Granted">Leases that are new.</param>
/// <param name="Ended">Leases that are no more.</param>
public sealed record RegionChanges(IReadOnlyCollection<string> Nodes, IReadOnlyList<Lease> Granted, IReadOnlyList<Lease> Ended);

/// <summary>
/// The region's decisions, without clock, store or calls: nodes with their leases, accounts, demands, and the pass that
/// grants what can be granted. Whoever steps it writes the changed rows before anyone hears of them; if that fails the
/// table is thrown away and read again.
/// </summary>
/// <param name="rules">Times and limits.</param>
/// <param name="placement">Chooses nodes and cards.</param>
/// <param name="newInstanceId">Makes the id of a new lease.</param>
/// <param name="startedAt">When this table was read; what happened to instances before is unknown to it.</param>
public sealed class RegionTable(RegionRules rules, IPlacement placement, Func<DateTimeOffset, string> newInstanceId, DateTimeOffset startedAt)
{
    private readonly List<NodeEntry> nodes = [];
    private readonly Dictionary<string, NodeEntry> byName = [];
    private readonly Dictionary<string, AccountEntry> accounts = [];
    private readonly Dictionary<(string Account, string Function), Dictionary<string, Lease>> held = [];
    private readonly Dictionary<(string Account, string Function), Demand> demands = [];
    private readonly Dictionary<string, ulong> typeBits = [];
    private readonly HashSet<(ulong Type, int SizeMiB)> sizes = [];
    private readonly HashSet<string> changedNodes = [];
    private readonly List<Lease> granted = [];
    private readonly List<Lease> ended = [];

    /// <summary>Rows of all nodes.</summary>
    public IEnumerable<LeaseTable> Tables => nodes.Select(node => node.Table);

    /// <summary>Enters a node as the store has it.</summary>
    public void Load(LeaseTable table)
    {
        var node = new NodeEntry(new LeaseTable { Node = table.Node });
        nodes.Add(node);
        byName.Add(table.Node, node);
        Put(node, table);
        TakeChanges(); // What was read is no change.
    }

    /// <summary>Whether the node has a row.</summary>
    public bool Knows(string node) => byName.ContainsKey(node);

    /// <summary>The row of a node.</summary>
    public LeaseTable TableOf(string node) => byName[node].Table;

    /// <summary>Sets what an account may hold. Lowering it ends nothing.</summary>
    public void SetQuota(string account, int limitMilliCards) => AccountOf(account).Limit = limitMilliCards;

    /// <summary>The account's quota and use.</summary>
    public QuotaStatus QuotaOf(string account) => accounts.TryGetValue(account, out var entry)
        ? new QuotaStatus(account, entry.Limit, entry.Held, entry.Instances)
        : new QuotaStatus(account, rules.DefaultQuotaMilliCards, 0, 0);

    /// <summary>A function states what it wants.</summary>
    public DemandAnswer State(CapacityDemand demand, DateTimeOffset now)
    {
        var key = (demand.Account, demand.Function);
        var mine = held.GetValueOrDefault(key);

        // It may not have heard of the latest grants: they count toward what it wants.
        var unheard = demand.HeldInstances is { } known ? (mine?.Count ?? 0) - known : 0;
        var more = Math.Max(0, demand.MoreInstances - unheard);
        if (more == 0)
        {
            demands.Remove(key);
        }
        else
        {
            demands[key] = new Demand(demand, ShapeOf(demand.Shape), now, demand.OldestWaitingSince ?? demands.GetValueOrDefault(key)?.Since ?? now) { More = more };
        }

        Pass(now);
        mine = held.GetValueOrDefault(key);
        var (reason, detail) = demands.TryGetValue(key, out var open) ? Explain(open, now) : (WaitReason.None, "");
        return new DemandAnswer(mine is null ? [] : [.. mine.Values], reason, detail);
    }

    /// <summary>A node states what it has. The node must be known: see <see cref="Load"/>.</summary>
    public NodeDirective Report(NodeReport report, DateTimeOffset now)
    {
        var node = byName[report.Node];
        node.SeenAt = now;
        node.Report = report;
        foreach (var instance in report.Instances)
        {
            node.EverSeen.Add(instance);
        }

        var table = node.Table.Adopt(report);
        if (report.Adopted)
        {
            // Nothing of the kind is there, though the order had time to arrive: it was lost, or it ended unseen.
            foreach (var lease in table.Leases.Where(l => !node.EverSeen.Contains(l.InstanceId)
                && now - (l.GrantedAt > startedAt ? l.GrantedAt : startedAt) > rules.LaunchGrace).ToList())
            {
                table = table.End(lease.InstanceId);
            }
        }

        node.EverSeen.RemoveWhere(instance => table.Find(instance) is null);
        Put(node, table);
        Pass(now);
        return new NodeDirective(node.Table.Leases, node.Table.Epoch);
    }

    /// <summary>A node proved an instance gone.</summary>
    public void Release(string nodeName, string instanceId, DateTimeOffset now)
    {
        if (byName.TryGetValue(nodeName, out var node))
        {
            Put(node, node.Table.End(instanceId));
            Pass(now);
        }
    }

    /// <summary>Nodes as operators see them.</summary>
    public IReadOnlyList<NodeStatus> Statuses(DateTimeOffset now) => [.. nodes.Select(node => new NodeStatus(
        node.Report ?? node.StoredReport(),
        Reachable(node, now),
        node.SeenAt ?? default,
        node.Table.Leases,
        node.Table.Cards.ToDictionary(card => card.Report.Uuid, card => card.Epoch)))];

    /// <summary>What changed since this was last asked.</summary>
    public RegionChanges TakeChanges()
    {
        var changes = new RegionChanges([.. changedNodes], [.. granted], [.. ended]);
        changedNodes.Clear();
        granted.Clear();
        ended.Clear();
        return changes;
    }

    /// <summary>Grants what can be granted now, the oldest demand first; one that cannot be met holds up no other.</summary>
    private void Pass(DateTimeOffset now)
    {
        foreach (var lapsed in demands.Where(d => now - d.Value.StatedAt > rules.DemandLapse).Select(d => d.Key).ToList())
        {
            demands.Remove(lapsed);
        }

        foreach (var node in nodes)
        {
            // Silence closes a node without any message.
            if (node.Room.Open != Open(node, now))
            {
                node.Room = node.Room with { Open = !node.Room.Open };
            }
        }

        foreach (var demand in QueueOrder.Sort(demands.Values))
        {
            while (demand.More > 0 && TryGrant(demand, now))
            {
                demand.More--;
            }

            if (demand.More == 0)
            {
                demands.Remove((demand.Stated.Account, demand.Stated.Function));
            }
        }
    }

    private bool TryGrant(Demand demand, DateTimeOffset now)
    {
        var stated = demand.Stated;
        var account = AccountOf(stated.Account);
        if (account.Held + MilliCards(demand.Shape) > account.Limit)
        {
            return false;
        }

        var rooms = nodes.Select(n => n.Room).Where(room => room.Node != stated.AvoidNode);
        if (stated.AvoidNode is { } avoided && !nodes.Any(n => n.Table.Node != avoided && n.Room.Open && n.Whole.Fits(demand.Shape, "")))
        {
            // Better the suspicious node than none at all.
            rooms = nodes.Select(n => n.Room);
        }

        if (placement.Choose(rooms, demand.Shape, stated.Account) is not { } spot)
        {
            return false;
        }

        var shares = spot.Cards.Select(i => spot.Node.Cards[i])
            .Select(card => new CardShare(card.Uuid, spot.MiB, LeaseTable.MilliCards(spot.MiB, card.SizeMiB), 0)).ToList();
        var node = byName[spot.Node.Node];
        var (next, outcome, _) = node.Table.Acquire(new Lease
        {
            InstanceId = newInstanceId(now),
            Account = stated.Account,
            Function = stated.Function,
            Node = spot.Node.Node,
            Cards = shares,
            CpuMilli = stated.Shape.CpuMilli,
            MemoryMiB = stated.Shape.MemoryMiB,
            DiskMiB = stated.Shape.DiskMiB,
            GrantedAt = now,
        });
        if (outcome != LeaseOutcome.Granted)
        {
            throw new InvalidOperationException($"Placement chose node '{spot.Node.Node}' for {stated.Account}/{stated.Function}, but its leases say {outcome}.");
        }

        Put(node, next);
        return true;
    }

    /// <summary>The reason why a demand still waits, with the amount short.</summary>
    private (WaitReason Reason, string Detail) Explain(Demand demand, DateTimeOffset now)
    {
        var (shape, account) = (demand.Shape, AccountOf(demand.Stated.Account));
        var share = MilliCards(shape);
        if (share > 0 && account.Held + share > account.Limit)
        {
            return (WaitReason.Quota, $"The account holds {account.Held} of {account.Limit} milli-cards; one more instance needs {share}, {account.Held + share - account.Limit} too many.");
        }

        var open = nodes.Where(n => Open(n, now)).ToList();
        if (open.Count == 0)
        {
            return (WaitReason.NoNode, nodes.Count == 0 ? "No node has joined the region." : $"None of {nodes.Count} nodes is reachable.");
        }

        var what = demand.Stated.Shape;
        if (shape.GpuMiB > 0)
        {
            var able = open.Where(n => n.Whole.FitsCards(shape, "")).ToList();
            if (able.Count == 0)
            {
                var largest = open.SelectMany(n => n.Whole.Cards).Where(c => (c.Type & shape.Types) != 0).Select(c => c.SizeMiB).DefaultIfEmpty().Max();
                return (WaitReason.NoCardOfType, largest == 0
                    ? $"No reachable node has a ready card of type {what.GpuType}."
                    : $"No reachable node can give {shape.GpuMiB} MiB on ready cards of type {what.GpuType}; the largest has {largest} MiB, and more than that goes in whole cards of one node.");
            }

            if (!able.Any(n => n.Room.FitsCards(shape, demand.Stated.Account)))
            {
                return (WaitReason.NoFreeCard, NoFreeCardDetail(able, shape, what.GpuType!, demand.Stated.Account));
            }
        }

        if (!open.Any(n => n.Room.Fits(shape, demand.Stated.Account)))
        {
            var nearest = open.Where(n => shape.GpuMiB == 0 || n.Room.FitsCards(shape, demand.Stated.Account))
                .Select(n => n.Room).MinBy(r => Short(shape.CpuMilli, r.CpuMilli) + Short(shape.MemoryMiB, r.MemoryMiB) + Short(shape.DiskMiB, r.DiskMiB))!;
            return (WaitReason.NoRoomOnNode, $"The nearest node is short of {Math.Max(0, shape.CpuMilli - nearest.CpuMilli)} milli-processors, {Math.Max(0, shape.MemoryMiB - nearest.MemoryMiB)} MiB memory and {Math.Max(0, shape.DiskMiB - nearest.DiskMiB)} MiB disk.");
        }

        return demand.Stated.AvoidNode is { } avoided && !open.Any(n => n.Table.Node != avoided && n.Room.Fits(shape, demand.Stated.Account))
            ? (WaitReason.NoFreeCard, $"Only node '{avoided}' has room, and an instance just failed there.")
            : (WaitReason.Behind, "Others are ahead.");

        static double Short(long wanted, long free) => wanted <= free ? 0 : (double)(wanted - free) / wanted;
    }

    private static string NoFreeCardDetail(List<NodeEntry> able, Shape shape, string type, string account)
    {
        var cards = able.SelectMany(n => n.Room.Cards).Where(c => c.Type != 0 && (c.Type & shape.Types) != 0).ToList();
        var empty = cards.Count(c => c.Empty);
        var most = cards.Where(c => c.Owner is null || c.Owner == account).Select(c => c.FreeMiB).DefaultIfEmpty().Max();
        var size = cards.Select(c => c.SizeMiB).DefaultIfEmpty().Max();
        return shape.GpuMiB > size && size > 0
            ? $"{shape.GpuMiB / size} empty cards of type {type} are needed on one node; the node with the most has {able.Max(n => n.Room.CountEmpty())}, all nodes together {empty}."
            : $"{shape.GpuMiB} MiB are needed on one card of type {type}; the most free for this account is {most} MiB, {shape.GpuMiB - most} short.";
    }

    /// <summary>Most that a request can cost on the sizes of card that its types come in.</summary>
    private int MilliCards(Shape shape)
    {
        var most = 0;
        foreach (var (type, size) in sizes)
        {
            if (shape.GpuMiB > 0 && (type & shape.Types) != 0 && shape.CutOn(size) is { Cards: > 0 } cut)
            {
                most = Math.Max(most, cut.Cards * LeaseTable.MilliCards(cut.MiB, size));
            }
        }

        return most;
    }

    private Shape ShapeOf(InstanceShape shape) => shape.GpuType is { } type && shape.GpuMemoryMiB > 0
        ? new Shape(BitOf(type), shape.GpuMemoryMiB, shape.CpuMilli, shape.MemoryMiB, shape.DiskMiB)
        : new Shape(0, 0, shape.CpuMilli, shape.MemoryMiB, shape.DiskMiB);

    /// <summary>Types are bits of one word. A region has a handful; a 65th type would match nothing and wait for a card for ever.</summary>
    private ulong BitOf(string type)
    {
        if (!typeBits.TryGetValue(type, out var bit))
        {
            typeBits.Add(type, bit = typeBits.Count < 64 ? 1UL << typeBits.Count : 0);
        }

        return bit;
    }

    private bool Reachable(NodeEntry node, DateTimeOffset now) => node.SeenAt is { } seen && now - seen <= rules.NodeSilence;

    /// <summary>Whether the node may get anything new: before it has adopted what it has, it takes no launches.</summary>
    private bool Open(NodeEntry node, DateTimeOffset now) => Reachable(node, now) && node.Report is { Adopted: true };

    private AccountEntry AccountOf(string account)
    {
        if (!accounts.TryGetValue(account, out var entry))
        {
            accounts.Add(account, entry = new AccountEntry { Limit = rules.DefaultQuotaMilliCards });
        }

        return entry;
    }

    /// <summary>Puts a node's new table in place of the old one, and with it everything that is counted from leases.</summary>
    private void Put(NodeEntry node, LeaseTable next)
    {
        var before = node.Table;
        if (ReferenceEquals(before, next))
        {
            return;
        }

        changedNodes.Add(next.Node);
        foreach (var lease in before.Leases.Where(l => next.Find(l.InstanceId) is null))
        {
            Count(lease, -1);
            held[(lease.Account, lease.Function)].Remove(lease.InstanceId);
        }

        foreach (var lease in next.Leases.Where(l => before.Find(l.InstanceId) is null))
        {
            Count(lease, +1);
            if (!held.TryGetValue((lease.Account, lease.Function), out var mine))
            {
                held.Add((lease.Account, lease.Function), mine = []);
            }

            mine[lease.InstanceId] = lease;
        }

        node.Table = next;
        node.Room = NodeRoom.Of(next, node.Room.Open, BitOf);
        if (!ReferenceEquals(before.Cards, next.Cards) || node.Whole.CpuMilli != next.CpuMilli || node.Whole.MemoryMiB != next.MemoryMiB || node.Whole.DiskMiB != next.DiskMiB)
        {
            node.Whole = NodeRoom.Of(next with { Leases = [] }, open: true, BitOf);
            sizes.UnionWith(node.Whole.Cards.Where(c => c.Type != 0).Select(c => (c.Type, c.SizeMiB)));
        }
    }

    private void Count(Lease lease, int sign)
    {
        var account = AccountOf(lease.Account);
        account.Held += sign * lease.MilliCards;
        account.Instances += sign;
        (sign > 0 ? granted : ended).Add(lease);
    }

    private sealed class AccountEntry
    {
        public int Limit { get; set; }

        public int Held { get; set; }

        public int Instances { get; set; }
    }

    private sealed class NodeEntry(LeaseTable table)
    {
        public LeaseTable Table { get; set; } = table;

        /// <summary>What is free now.</summary>
        public NodeRoom Room { get; set; } = new() { Node = table.Node };

        /// <summary>What would be free without leases.</summary>
        public NodeRoom Whole { get; set; } = new() { Node = table.Node };

        public DateTimeOffset? SeenAt { get; set; }

        public NodeReport? Report { get; set; }

        /// <summary>Instances with a lease here that the node listed at least once.</summary>
        public HashSet<string> EverSeen { get; } = [];

        public NodeReport StoredReport() => new()
        {
            Node = Table.Node,
            BootId = Table.BootId,
            CpuMilli = Table.CpuMilli,
            MemoryMiB = Table.MemoryMiB,
            DiskMiB = Table.DiskMiB,
            Cards = [.. Table.Cards.Where(c => c.Present).Select(c => c.Report)],
        };
    }
}
