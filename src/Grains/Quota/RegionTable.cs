using GpuTasks.Functions;
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

    /// <summary>A demand that waited so long gets a node kept, if it needs whole cards, or others asked to yield: default 60 s.</summary>
    public TimeSpan Patience { get; init; } = TimeSpan.FromSeconds(60);

    /// <summary>Nodes kept at once for one card type: default 4. 0 keeps none.</summary>
    public int ReservationsPerType { get; init; } = 4;

    /// <summary>Demands for which others are asked to yield at one time: default 8. 0 asks nobody.</summary>
    public int YieldingFor { get; init; } = 8;

    /// <summary>How often others are asked to yield: default 5 s.</summary>
    public TimeSpan Asking { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>How often silence, lapse and reservations are looked at: default 1 s.</summary>
    public TimeSpan Tidying { get; init; } = TimeSpan.FromSeconds(1);

    /// <summary>
    /// The control plane has just begun, so the store may be one that was set back, and nodes may run what it takes for waiting: no
    /// demand is answered before every node has said what it has, or was silent for <see cref="NodeSilence"/>. Default false.
    /// </summary>
    public bool ColdStart { get; init; }
}

/// <summary>What a step changed: rows to write, then functions to tell.</summary>
/// <param name="Nodes">Nodes whose row changed.</param>
/// <param name="Granted">Leases that are new.</param>
/// <param name="Ended">Leases that are no more.</param>
/// <param name="Yielding">Leases whose holders are now asked to let them go.</param>
public sealed record RegionChanges(IReadOnlyCollection<string> Nodes, IReadOnlyList<Lease> Granted, IReadOnlyList<Lease> Ended, IReadOnlyList<Lease> Yielding);

/// <summary>
/// The region's decisions, without clock, store or calls: nodes with their leases, accounts, demands, and the pass that
/// grants what can be granted. Whoever steps it writes the changed rows before anyone hears of them; if that fails the
/// table is thrown away and read again.
/// </summary>
/// <param name="rules">Times and limits.</param>
/// <param name="placement">Chooses nodes and cards.</param>
/// <param name="newInstanceId">Makes the id of a new lease.</param>
/// <param name="startedAt">When this table was read; what happened to instances before is unknown to it.</param>
public sealed partial class RegionTable(RegionRules rules, IPlacement placement, Func<DateTimeOffset, string> newInstanceId, DateTimeOffset startedAt)
{
    /// <summary>Of one statement no more arrivals than this are learnt, so that one large wish does not drown the mix.</summary>
    private const int MostArrivals = 50;

    /// <summary>Nodes looked at in one round of asking others to yield; the next round goes on from there.</summary>
    private const int MostLooks = 512;

    private readonly List<NodeEntry> nodes = [];
    private readonly Dictionary<string, NodeEntry> byName = [];
    private readonly Dictionary<string, Account> accounts = [];

    /// <summary>All accounts, as <see cref="QueueOrder"/> last ordered them.</summary>
    private readonly List<Account> byShare = [];
    private readonly Dictionary<(string Account, string Function), Dictionary<string, Lease>> held = [];
    private readonly Dictionary<(string Account, string Function), Demand> demands = [];
    private readonly Dictionary<string, ulong> typeBits = [];
    private readonly HashSet<(ulong Type, int SizeMiB)> sizes = [];

    /// <summary>What is free on each node, in the order of <see cref="nodes"/>, as placement reads it.</summary>
    private readonly List<NodeRoom> rooms = [];

    /// <summary>Nodes that gained room since the last pass: only there can what was blocked fit now.</summary>
    private readonly List<NodeEntry> gained = [];

    /// <summary>Demands to try everywhere in the next pass.</summary>
    private readonly List<Demand> fresh = [];
    private readonly HashSet<NodeEntry> changedSinceTidied = [];
    private readonly Dictionary<string, Reservation> reservations = [];

    /// <summary>Leases asked for, by instance, and for whom.</summary>
    private readonly Dictionary<string, Demand> yielding = [];
    private readonly HashSet<string> changedNodes = [];
    private readonly List<Lease> granted = [];
    private readonly List<Lease> ended = [];
    private readonly List<Lease> asked = [];

    /// <summary>Leases whose drain's deadline has passed and whose holders were told so.</summary>
    private readonly HashSet<string> evicted = [];
    private DateTimeOffset tidiedAt = DateTimeOffset.MinValue;
    private DateTimeOffset askedAt = DateTimeOffset.MinValue;
    private bool nodesHeard = !rules.ColdStart;
    private long served;
    private int lookAt;

    /// <summary>Rows of all nodes.</summary>
    public IEnumerable<LeaseTable> Tables => nodes.Select(node => node.Table);

    /// <summary>Enters a node as the store has it.</summary>
    public void Load(LeaseTable table)
    {
        var node = new NodeEntry(new LeaseTable { Node = table.Node }, nodes.Count);
        nodes.Add(node);
        rooms.Add(node.Room);
        byName.Add(table.Node, node);
        Put(node, table);
        TakeChanges(); // What was read is no change.
    }

    /// <summary>Whether the node has a row.</summary>
    public bool Knows(string node) => byName.ContainsKey(node);

    /// <summary>True while the row of a node is of an earlier time than its last word: then not even a missing lease proves anything.</summary>
    public bool IsBehind(string node) => IsBehind(byName[node]);

    /// <summary>The row of a node.</summary>
    public LeaseTable TableOf(string node) => byName[node].Table;

    /// <summary>Sets what an account may hold and its weight. Lowering it ends nothing.</summary>
    public void SetQuota(string account, int limitMilliCards, int weight, DateTimeOffset now)
    {
        var entry = AccountOf(account);
        (entry.Limit, entry.Weight) = (limitMilliCards, weight);
        Refresh(entry.Waiting);
        Pass(now);
    }

    /// <summary>The account's quota and use.</summary>
    public QuotaStatus QuotaOf(string account) => accounts.TryGetValue(account, out var entry)
        ? new QuotaStatus(account, entry.Limit, entry.Held, entry.Instances, entry.Weight)
        : new QuotaStatus(account, rules.DefaultQuotaMilliCards, 0, 0);

    /// <summary>A function states what it wants.</summary>
    public DemandAnswer State(CapacityDemand stated, DateTimeOffset now)
    {
        if (UnheardOf(now) is { Count: > 0 } unheard)
        {
            var names = string.Join(", ", unheard.Take(5).Select(node => $"'{node.Table.Node}'"));
            return new DemandAnswer([], WaitReason.NodesUnheard, $"The region has just begun and first hears what its nodes run. {unheard.Count} of {nodes.Count} have not said it yet: {names}{(unheard.Count > 5 ? ", …" : "")}.");
        }

        var key = (stated.Account, stated.Function);
        var count = held.GetValueOrDefault(key)?.Count ?? 0;

        // It may not have heard of the latest grants: they count toward what it wants. Nor of the latest ends, but what has ended
        // is not wanted back by that alone: it hears of it in the answer.
        var more = Math.Max(0, stated.MoreInstances - Math.Max(0, stated.HeldInstances is { } known ? count - known : 0));
        var before = demands.GetValueOrDefault(key);
        Drop(before);
        Keep(stated, now);
        if (more > 0)
        {
            var demand = new Demand(AccountOf(stated.Account), stated, ShapeOf(stated.Shape))
            {
                StatedAt = now,
                Since = stated.OldestWaitingSince ?? before?.Since ?? now,
                More = more,
                Ahead = Math.Clamp(stated.Provisioned - count, 0, more),
                LastServed = before?.LastServed ?? 0,
            };
            for (var i = before?.More ?? 0; i < Math.Min(more, MostArrivals); i++)
            {
                placement.Arrived(demand.Shape);
            }

            Enter(demand, before);
        }

        Pass(now);
        var open = demands.GetValueOrDefault(key);
        var (reason, detail, missing) = open is null ? (WaitReason.None, "", CapacityShort.Nothing) : ReasonOf(open, now);
        IReadOnlyCollection<Lease> mine = held.GetValueOrDefault(key)?.Values is { } leases ? leases : [];
        return new DemandAnswer([.. mine], reason, detail)
        {
            Missing = missing,
            Rank = open is null ? 0 : QueueOrder.RankOf(open, demands.Values, now),
            RankInAccount = open is null ? 0 : QueueOrder.RankInAccount(open, now),
            Yield = [.. mine.Where(lease => yielding.ContainsKey(lease.InstanceId) || DrainOf(lease) is not null).Select(lease => lease.InstanceId)],
            Evict = [.. mine.Where(lease => DrainOf(lease)?.Deadline <= now).Select(lease => lease.InstanceId)],
        };
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
        SetOpen(node, Open(node, now));
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

    /// <summary>Lets a node run empty, or take leases again with null. The node must be known.</summary>
    public void Drain(string nodeName, Drain? drain, DateTimeOffset now)
    {
        var node = byName[nodeName];
        Put(node, node.Table with { Drained = drain });
        AfterDrain(node, now);
    }

    /// <summary>Name of the node that has a card, or null if none has.</summary>
    public string? NodeWith(string uuid) => nodes.Find(node => node.Table.Cards.Any(card => card.Present && card.Report.Uuid == uuid))?.Table.Node;

    /// <summary>Lets one card of a node run empty, or take leases again with null.</summary>
    public void DrainCard(string nodeName, string uuid, Drain? drain, DateTimeOffset now)
    {
        var node = byName[nodeName];
        Put(node, node.Table with { Cards = [.. node.Table.Cards.Select(card => card.Report.Uuid == uuid ? card with { Drained = drain } : card)] });
        AfterDrain(node, now);
    }

    /// <summary>Types of all cards.</summary>
    public IReadOnlyList<string> CardTypes() =>
        [.. nodes.SelectMany(node => node.Table.Cards).Where(card => card.Present).Select(card => card.Report.Type).Distinct().Order(StringComparer.Ordinal)];

    /// <summary>Nodes as operators see them.</summary>
    public IReadOnlyList<NodeStatus> Statuses(DateTimeOffset now) => [.. nodes.Select(node => new NodeStatus(
        node.Report ?? node.StoredReport(),
        Reachable(node, now),
        node.SeenAt ?? default,
        node.Table.Leases,
        node.Table.Cards.ToDictionary(card => card.Report.Uuid, card => card.Epoch))
    {
        Drained = node.Table.Drained,
        DrainedCards = node.Table.Cards.Where(card => card.Drained is not null).ToDictionary(card => card.Report.Uuid, card => card.Drained!),
    })];

    /// <summary>What changed since this was last asked.</summary>
    public RegionChanges TakeChanges()
    {
        var changes = new RegionChanges([.. changedNodes], [.. granted], [.. ended], [.. asked]);
        changedNodes.Clear();
        granted.Clear();
        ended.Clear();
        asked.Clear();
        return changes;
    }

    /// <summary>
    /// Grants what can be granted now, in the order of <see cref="QueueOrder"/>. One that cannot be met holds up no
    /// other, unless a node is kept for it. What was blocked is tried only on nodes that gained room since.
    /// </summary>
    private void Pass(DateTimeOffset now)
    {
        if (now - tidiedAt >= rules.Tidying)
        {
            tidiedAt = now;
            Tidy(now);
        }

        if (gained.Count == 0 && fresh.Count == 0)
        {
            return;
        }

        // Room only shrinks during a pass, so one that fits nowhere, or was refused, is out until the next.
        var order = new QueueOrder(gained.Count == 0 ? [.. fresh.Select(d => d.Account).Distinct()] : byShare, now, fresh.Count == 0 ? RoomBound.Of(gained.Select(node => node.Room)) : null);
        Demand? refused = null;
        while (order.Next(demand => demand != refused && Hopeful(demand)) is { } demand)
        {
            if (!TryGrant(demand, now))
            {
                refused = demand;
            }
            else if (--demand.More == 0)
            {
                Drop(demand);
            }
        }

        gained.Clear();
        fresh.ForEach(demand => demand.Fresh = false);
        fresh.Clear();
    }

    private bool Hopeful(Demand demand)
    {
        if (demand.Fresh)
        {
            return true;
        }

        if (demand.Blocked == Blocked.ByRoom)
        {
            foreach (var node in gained)
            {
                if (node.Room.Fits(demand.Shape, demand.Account.Name))
                {
                    return true;
                }
            }
        }

        return false;
    }

    private bool TryGrant(Demand demand, DateTimeOffset now)
    {
        var stated = demand.Stated;
        if (MilliCards(demand.Shape) is > 0 and var need && demand.Account.Held + need + ReservedForOthers(demand) > demand.Account.Limit)
        {
            demand.Blocked = Blocked.ByQuota;
            return false;
        }

        if (placement.Choose(Allowed(demand, now), demand.Shape, stated.Account) is not { } spot)
        {
            demand.Blocked = Blocked.ByRoom;
            return false;
        }

        var (next, outcome, _) = byName[spot.Node.Node].Table.Acquire(new Lease
        {
            InstanceId = newInstanceId(now),
            Account = stated.Account,
            Function = stated.Function,
            Node = spot.Node.Node,
            Cards = [.. spot.Cards.Select(i => spot.Node.Cards[i]).Select(card => new CardShare(card.Uuid, spot.MiB, LeaseTable.MilliCards(spot.MiB, card.SizeMiB), 0, EnforcementOf(spot.Node.Node, card.Uuid)))],
            CpuMilli = stated.Shape.CpuMilli,
            MemoryMiB = stated.Shape.MemoryMiB,
            DiskMiB = stated.Shape.DiskMiB,
            GrantedAt = now,
            RunLimit = stated.RunLimit,
        });
        if (outcome != LeaseOutcome.Granted)
        {
            throw new InvalidOperationException($"Placement chose node '{spot.Node.Node}' for {stated.Account}/{stated.Function}, but its leases say {outcome}.");
        }

        Put(byName[spot.Node.Node], next);
        demand.LastServed = ++served;
        demand.Ahead = Math.Max(0, demand.Ahead - 1);
        if (reservations.TryGetValue(spot.Node.Node, out var kept) && kept.Demand == demand)
        {
            reservations.Remove(spot.Node.Node);
        }

        return true;
    }

    /// <summary>Nodes that a demand may go to now: not one it must avoid, nor one kept for another.</summary>
    private List<NodeRoom> Allowed(Demand demand, DateTimeOffset now)
    {
        var candidates = demand.Blocked == Blocked.ByRoom && !demand.Fresh ? [.. gained.Select(n => n.Room)] : rooms;
        if (reservations.Count > 0)
        {
            candidates = candidates.ConvertAll(room => RoomFor(demand, byName[room.Node], now));
        }

        if (demand.Stated.AvoidNode is { } avoided && nodes.Exists(n => n.Table.Node != avoided && n.Room.Open && n.Whole.Fits(demand.Shape, "")))
        {
            // Were there no other that could ever serve, the suspicious node would be better than none.
            candidates = candidates.FindAll(room => room.Node != avoided);
        }

        return candidates;
    }

    /// <summary>What is free on a node for a demand: all of it, or what is not kept for another.</summary>
    private NodeRoom RoomFor(Demand demand, NodeEntry node, DateTimeOffset now)
    {
        if (!reservations.TryGetValue(node.Table.Node, out var kept) || kept.Admits(demand, now))
        {
            return node.Room;
        }

        if (node.Unkept is not { } unkept || unkept.Of != node.Room || unkept.For != kept)
        {
            node.Unkept = unkept = (node.Room, kept, kept.Without(node.Room));
        }

        return unkept.Left;
    }

    /// <summary>What time alone changes: demands lapse, nodes fall silent, nodes are kept for those who waited long.</summary>
    private void Tidy(DateTimeOffset now)
    {
        foreach (var demand in demands.Values.Where(d => now - d.StatedAt > rules.DemandLapse).ToList())
        {
            Drop(demand);
        }

        foreach (var node in nodes)
        {
            SetOpen(node, Open(node, now));
            Evict(node, now);
        }

        foreach (var account in byShare)
        {
            foreach (var (function, kept) in account.Kept.ToList())
            {
                if (now - kept.StatedAt > rules.DemandLapse)
                {
                    account.Kept.Remove(function);
                    RefreshBlockedByQuota(account);
                }
            }
        }

        Reserve(now);
        if (now - askedAt >= rules.Asking)
        {
            askedAt = now;
            AskToYield(now);
        }
    }

    private bool WaitsLong(Demand demand, DateTimeOffset now) => demand.Blocked == Blocked.ByRoom && now - demand.Since > rules.Patience;

    /// <summary>
    /// Keeps for demands that need whole cards those that are clear for them first: for so many gangs of a type, and for
    /// one request of a single card. What is kept stays so until it is used or no longer wanted, and is changed only for
    /// what is clear sooner, so the moment can only come nearer.
    /// </summary>
    private void Reserve(DateTimeOffset now)
    {
        var next = new Dictionary<string, Reservation>();
        var perType = new Dictionary<(ulong, bool), int>();
        var perDemand = new Dictionary<Demand, int>();
        bool MayKeep(Demand d, int most) => WaitsLong(d, now) && SizeOf(d) is var size and not CardNeed.Part
            && perDemand.GetValueOrDefault(d) < Math.Min(most, d.More)
            && perType.GetValueOrDefault((d.Shape.Types, size == CardNeed.Gang)) < (size == CardNeed.Gang ? rules.ReservationsPerType : Math.Min(1, rules.ReservationsPerType));
        void Keep(Reservation kept)
        {
            next.Add(kept.Node, kept);
            var key = (kept.Demand.Shape.Types, SizeOf(kept.Demand) == CardNeed.Gang);
            perType[key] = perType.GetValueOrDefault(key) + 1;
            perDemand[kept.Demand] = perDemand.GetValueOrDefault(kept.Demand) + 1;
        }

        Reservation? SoonestClear(IEnumerable<NodeEntry> among, Demand demand, Reservation? best)
        {
            foreach (var node in among)
            {
                if (!next.ContainsKey(node.Table.Node) && ReservationOn(node, demand, now, best?.Clear.At) is { } sooner)
                {
                    best = sooner;
                }
            }

            return best;
        }

        foreach (var kept in reservations.Values)
        {
            if (MayKeep(kept.Demand, int.MaxValue) && ReservationOn(byName[kept.Node], kept.Demand, now) is { } still)
            {
                // A node that did not change is not clear any sooner than when it was last looked at.
                Keep(SoonestClear(changedSinceTidied.Where(n => !reservations.ContainsKey(n.Table.Node)), kept.Demand, still)!);
            }
        }

        for (var round = 1; round <= rules.ReservationsPerType; round++)
        {
            // Everyone gets one before anyone gets a second.
            var order = new QueueOrder(byShare, now);
            while (order.Next(d => MayKeep(d, round)) is { } demand)
            {
                if (SoonestClear(nodes, demand, null) is { } best)
                {
                    Keep(best);
                }
                else
                {
                    perDemand[demand] = int.MaxValue; // No node is left that could ever take it.
                }
            }
        }

        foreach (var (node, gone) in reservations)
        {
            if (next.GetValueOrDefault(node) is not { } kept || kept.Demand != gone.Demand || !kept.Clear.Cards.ToHashSet().SetEquals(gone.Clear.Cards))
            {
                Gain(byName[node]);
            }
        }

        reservations.Clear();
        foreach (var (node, kept) in next)
        {
            reservations.Add(node, kept);
        }

        changedSinceTidied.Clear();
    }

    private static Reservation? ReservationOn(NodeEntry node, Demand demand, DateTimeOffset now, DateTimeOffset? before = null) =>
        node.Room.Open && Reservation.ClearFor(node.Table, node.Whole, demand.Shape, now, before) is { } clear ? new Reservation(demand, node.Table.Node, clear) : null;

    /// <summary>
    /// Chooses instances that should leave after their present runs: those a kept node waits for, and those of accounts
    /// and functions that hold more than one that has waited long would hold with what it asks for.
    /// </summary>
    private void AskToYield(DateTimeOffset now)
    {
        foreach (var (instance, demand) in yielding.ToList())
        {
            if (demands.TryGetValue((demand.Stated.Account, demand.Stated.Function), out var current))
            {
                yielding[instance] = current;
            }
            else
            {
                yielding.Remove(instance); // Whoever wanted it wants it no more.
            }
        }

        foreach (var kept in reservations.Values)
        {
            foreach (var lease in HoldTooMuch(kept.Clear.Awaits, kept.Demand) ? kept.Clear.Awaits : [])
            {
                if (kept.Calls(lease, now) && HadItsTurn(lease, now))
                {
                    Ask(lease, kept.Demand);
                }
            }
        }

        var served = yielding.Values.Concat(reservations.Values.Select(r => r.Demand)).ToHashSet();
        var order = new QueueOrder(rules.YieldingFor > 0 ? byShare : [], now);
        var looks = MostLooks;
        for (var i = 0; i < rules.YieldingFor && looks > 0 && order.Next(d => WaitsLong(d, now) && !served.Contains(d)) is { } demand; i++)
        {
            served.Add(demand);
            if (demand.Account.Held + MilliCards(demand.Shape) + ReservedForOthers(demand) > demand.Account.Limit || !SomebodyHoldsTooMuch(demand))
            {
                continue;
            }

            for (var seen = 0; seen < nodes.Count && looks > 0; seen++, looks--)
            {
                lookAt = (lookAt + 1) % nodes.Count;
                var node = nodes[lookAt];
                if (node.Room.Open && !reservations.ContainsKey(node.Table.Node)
                    && Reservation.ClearFor(node.Table, node.Whole, demand.Shape, now) is { Awaits: { Count: > 0 } awaits }
                    && awaits.All(lease => HadItsTurn(lease, now)) && HoldTooMuch(awaits, demand))
                {
                    foreach (var lease in awaits)
                    {
                        Ask(lease, demand);
                    }

                    break;
                }
            }
        }
    }

    /// <summary>Whether an instance had time to begin a run: to be sent away before would be for nothing.</summary>
    private bool HadItsTurn(Lease lease, DateTimeOffset now) => now - lease.GrantedAt >= rules.Patience;

    /// <summary>Whether a lease that must go can exist at all: spares looking for one on every node.</summary>
    private bool SomebodyHoldsTooMuch(Demand demand)
    {
        var need = MilliCards(demand.Shape);
        var share = (double)(demand.Account.Held + need) / demand.Account.Weight;
        return accounts.Values.Any(a => a != demand.Account && a.Share > share)
            || held.Any(f => f.Key.Account == demand.Account.Name && f.Value.Values.Sum(l => l.MilliCards) > need);
    }

    /// <summary>
    /// Whether each holder would still hold at least as much as the one who waits, after they gave and it got: then
    /// nobody is ever asked to give back what was given. Of another account the account counts, of its own the function.
    /// What is provisioned stays with its function.
    /// </summary>
    private bool HoldTooMuch(IReadOnlyList<Lease> leases, Demand demand)
    {
        if (!leases.GroupBy(l => (l.Account, l.Function)).All(f =>
            AccountOf(f.Key.Account).Kept.GetValueOrDefault(f.Key.Function) is not { Provisioned: > 0 } kept || held[f.Key].Count - f.Count() >= kept.Provisioned))
        {
            return false;
        }

        var need = MilliCards(demand.Shape);
        var own = demand.Stated.Account;
        return leases.GroupBy(l => (l.Account, Function: l.Account == own ? l.Function : "")).All(holder =>
        {
            var gives = holder.Sum(l => l.MilliCards);
            return holder.Key.Account != own
                ? (double)(AccountOf(holder.Key.Account).Held - gives) / AccountOf(holder.Key.Account).Weight >= (double)(demand.Account.Held + need) / demand.Account.Weight
                : holder.Key.Function != demand.Stated.Function
                    && MilliCardsOf(own, holder.Key.Function) - gives >= MilliCardsOf(own, demand.Stated.Function) + need;
        });
    }

    private int MilliCardsOf(string account, string function) =>
        held.TryGetValue((account, function), out var leases) ? leases.Values.Sum(l => l.MilliCards) : 0;

    private void Ask(Lease lease, Demand demand)
    {
        if (yielding.TryAdd(lease.InstanceId, demand))
        {
            asked.Add(lease);
        }
    }

    /// <summary>Notes what a function keeps for itself.</summary>
    private void Keep(CapacityDemand stated, DateTimeOffset now)
    {
        if (stated is { Provisioned: 0, Reserved: 0 } && !accounts.ContainsKey(stated.Account))
        {
            return;
        }

        var account = AccountOf(stated.Account);
        var before = account.Kept.GetValueOrDefault(stated.Function);
        if (stated is { Provisioned: 0, Reserved: 0 })
        {
            account.Kept.Remove(stated.Function);
        }
        else
        {
            account.Kept[stated.Function] = new Kept(stated.Provisioned, (int)Math.Min(int.MaxValue, (long)stated.Reserved * MilliCards(ShapeOf(stated.Shape))), now);
        }

        if (before?.ReservedMilliCards > (account.Kept.GetValueOrDefault(stated.Function)?.ReservedMilliCards ?? 0))
        {
            RefreshBlockedByQuota(account);
        }
    }

    /// <summary>
    /// Part of an account's quota that its other functions keep and do not use: at most nine tenths of it, so that no
    /// reservation shuts everybody else out.
    /// </summary>
    private int ReservedForOthers(Demand demand)
    {
        if (demand.Account.Kept.Count == 0 || demand.Shape.GpuMiB == 0)
        {
            return 0;
        }

        // The definitions of a function have one reservation together, which each of them states.
        var own = DefinitionKey.Split(demand.Stated.Function).Function;
        var sum = demand.Account.Kept
            .Where(kept => kept.Value.ReservedMilliCards > 0)
            .GroupBy(kept => DefinitionKey.Split(kept.Key).Function)
            .Where(function => function.Key != own)
            .Sum(function => Math.Max(0L, function.Max(kept => kept.Value.ReservedMilliCards) - function.Sum(kept => MilliCardsOf(demand.Account.Name, kept.Key))));

        return (int)Math.Min(sum, demand.Account.Limit * 9L / 10);
    }

    private void RefreshBlockedByQuota(Account account) => Refresh(account.Waiting.Where(d => d.Blocked == Blocked.ByQuota));

    private MemoryEnforcement? EnforcementOf(string node, string uuid)
    {
        foreach (var card in byName[node].Table.Cards)
        {
            if (card.Report.Uuid == uuid)
            {
                return card.Report.Enforcement;
            }
        }

        return null;
    }

    private Drain? DrainOf(Lease lease) => byName[lease.Node].Table.DrainOf(lease);

    /// <summary>Whoever holds something there hears of it at once.</summary>
    private void AfterDrain(NodeEntry node, DateTimeOffset now)
    {
        SetOpen(node, Open(node, now));
        asked.AddRange(node.Table.Leases.Where(lease => DrainOf(lease) is not null));
        Evict(node, now);
        Pass(now);
    }

    /// <summary>Tells the holders of leases whose drain's deadline has passed, once.</summary>
    private void Evict(NodeEntry node, DateTimeOffset now)
    {
        foreach (var lease in node.Table.Leases)
        {
            if (DrainOf(lease)?.Deadline <= now && evicted.Add(lease.InstanceId))
            {
                asked.Add(lease);
            }
        }
    }

    private void Enter(Demand demand, Demand? before)
    {
        demands.Add((demand.Stated.Account, demand.Stated.Function), demand);
        demand.Account.Enter(demand);
        Refresh([demand]);
        if (before?.Shape == demand.Shape)
        {
            // The same one states itself again: what is kept for it stays so.
            demand.Blocked = before.Blocked;
            foreach (var kept in reservations.Values.Where(r => ReferenceEquals(r.Demand, before)).ToList())
            {
                reservations[kept.Node] = kept with { Demand = demand };
            }
        }
    }

    private void Drop(Demand? demand)
    {
        if (demand is not null)
        {
            demands.Remove((demand.Stated.Account, demand.Stated.Function));
            demand.Account.Leave(demand);
            fresh.Remove(demand);
        }
    }

    private void Refresh(IEnumerable<Demand> some)
    {
        foreach (var demand in some)
        {
            if (!demand.Fresh)
            {
                demand.Fresh = true;
                fresh.Add(demand);
            }
        }
    }

    /// <summary>What a request takes of cards at the most: many small ones may pass one that needs whole cards for ever.</summary>
    private CardNeed SizeOf(Demand demand)
    {
        var need = CardNeed.Part;
        foreach (var (type, size) in sizes)
        {
            if (demand.Shape.GpuMiB >= size && (type & demand.Shape.Types) != 0)
            {
                need = demand.Shape.GpuMiB > size ? CardNeed.Gang : need == CardNeed.Part ? CardNeed.Card : need;
            }
        }

        return need;
    }

    private enum CardNeed
    {
        Part,
        Card,
        Gang,
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

    private static bool IsBehind(NodeEntry node) => node.Report is { } report && report.NodeEpoch > node.Table.Epoch;

    /// <summary>Nodes to be heard before the first demand is answered.</summary>
    private List<NodeEntry> UnheardOf(DateTimeOffset now)
    {
        var unheard = nodesHeard || now - startedAt > rules.NodeSilence ? [] : nodes.FindAll(node => node.SeenAt is null || IsBehind(node));
        nodesHeard |= unheard.Count == 0;
        return unheard;
    }

    private bool Reachable(NodeEntry node, DateTimeOffset now) => node.SeenAt is { } seen && now - seen <= rules.NodeSilence;

    /// <summary>Whether the node may get anything new: before it has adopted what it has, it takes no launches.</summary>
    private bool Open(NodeEntry node, DateTimeOffset now) => Serves(node, now) && node.Table.Drained is null;

    /// <summary>Whether the node may get anything new as far as it is concerned itself.</summary>
    private bool Serves(NodeEntry node, DateTimeOffset now) => Reachable(node, now) && node.Report is { Adopted: true };

    private Account AccountOf(string name)
    {
        if (!accounts.TryGetValue(name, out var account))
        {
            accounts.Add(name, account = new Account(name) { Limit = rules.DefaultQuotaMilliCards });
            byShare.Add(account);
        }

        return account;
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
        changedSinceTidied.Add(node);
        foreach (var lease in before.Leases)
        {
            if (next.Find(lease.InstanceId) is null)
            {
                Count(lease, -1);
                held[(lease.Account, lease.Function)].Remove(lease.InstanceId);
                yielding.Remove(lease.InstanceId);
                evicted.Remove(lease.InstanceId);
                ended.Add(lease);
                Gain(node);

                // Its account holds less now: who was blocked by the quota may go on.
                RefreshBlockedByQuota(AccountOf(lease.Account));
            }
        }

        foreach (var lease in next.Leases)
        {
            if (before.Find(lease.InstanceId) is null)
            {
                Count(lease, +1);
                if (!held.TryGetValue((lease.Account, lease.Function), out var mine))
                {
                    held.Add((lease.Account, lease.Function), mine = []);
                }

                mine[lease.InstanceId] = lease;
                granted.Add(lease);
            }
        }

        node.Table = next;
        node.Room = NodeRoom.Of(next, node.Room.Open, BitOf);
        rooms[node.Position] = node.Room;
        if (before.Cards.Count != next.Cards.Count || !before.Cards.Zip(next.Cards).All(c => ReferenceEquals(c.First.Report, c.Second.Report) && c.First.Present == c.Second.Present && c.First.Drained == c.Second.Drained)
            || (before.CpuMilli, before.MemoryMiB, before.DiskMiB) != (next.CpuMilli, next.MemoryMiB, next.DiskMiB))
        {
            Gain(node);
            node.Whole = NodeRoom.Of(next with { Leases = [] }, open: true, BitOf);
            sizes.UnionWith(node.Whole.Cards.Where(c => c.Type != 0).Select(c => (c.Type, c.SizeMiB)));
        }
    }

    private void Gain(NodeEntry node)
    {
        if (!gained.Contains(node))
        {
            gained.Add(node);
        }
    }

    private void SetOpen(NodeEntry node, bool open)
    {
        if (node.Room.Open != open)
        {
            node.Room = node.Room with { Open = open };
            rooms[node.Position] = node.Room;
            changedSinceTidied.Add(node);
            if (open)
            {
                Gain(node);
            }
        }
    }

    private void Count(Lease lease, int sign)
    {
        var account = AccountOf(lease.Account);
        account.Held += sign * lease.MilliCards;
        account.Instances += sign;
    }

    private sealed class NodeEntry(LeaseTable table, int position)
    {
        public int Position { get; } = position;

        public LeaseTable Table { get; set; } = table;

        /// <summary>What is free now.</summary>
        public NodeRoom Room { get; set; } = new() { Node = table.Node };

        /// <summary>What would be free without leases.</summary>
        public NodeRoom Whole { get; set; } = new() { Node = table.Node };

        /// <summary>What is free beside what is kept there, as of a room and a reservation.</summary>
        public (NodeRoom Of, Reservation For, NodeRoom Left)? Unkept { get; set; }

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
