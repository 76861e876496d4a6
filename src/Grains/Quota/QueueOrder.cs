using System.Runtime.InteropServices;
using GpuTasks.Quota.Placement;

namespace GpuTasks.Quota;

/// <summary>The most of anything that some nodes have free.</summary>
internal readonly record struct RoomBound(long GpuMiB, long CpuMilli, long MemoryMiB, long DiskMiB)
{
    public static RoomBound Of(IEnumerable<NodeRoom> rooms) => rooms.Aggregate(default(RoomBound), static (most, room) => new RoomBound(
        Math.Max(most.GpuMiB, room.MostMiB), Math.Max(most.CpuMilli, room.CpuMilli), Math.Max(most.MemoryMiB, room.MemoryMiB), Math.Max(most.DiskMiB, room.DiskMiB)));

    public bool Admits(in Shape shape) =>
        shape.GpuMiB <= GpuMiB && shape.CpuMilli <= CpuMilli && shape.MemoryMiB <= MemoryMiB && shape.DiskMiB <= DiskMiB;
}

/// <summary>Why a demand was passed over when it was last tried.</summary>
internal enum Blocked
{
    /// <summary>It was not tried since something changed for it.</summary>
    No,

    /// <summary>Its account may not hold more.</summary>
    ByQuota,

    /// <summary>No node that it may use has room. It stays so until a node gains room.</summary>
    ByRoom,
}

/// <summary>What one account holds and may hold.</summary>
internal sealed class Account(string name)
{
    public string Name { get; } = name;

    public int Limit { get; set; }

    /// <summary>Its part when cards are short, against other accounts' weights.</summary>
    public int Weight { get; set; } = 1;

    public int Held { get; set; }

    public int Instances { get; set; }

    /// <summary>Its demands that are not met.</summary>
    public List<Demand> Waiting { get; } = [];

    /// <summary>What they ask for, in the same order: read first, since most of it fits nowhere.</summary>
    public List<Shape> Needs { get; } = [];

    /// <summary>Since when the oldest of them waits.</summary>
    public DateTimeOffset Since { get; private set; }

    public double Share => (double)Held / Weight;

    /// <summary>What its functions keep for themselves, by function.</summary>
    public Dictionary<string, Kept> Kept { get; } = [];

    public void Enter(Demand demand)
    {
        Waiting.Add(demand);
        Needs.Add(demand.Shape);
        Since = Waiting.Min(d => d.Since);
    }

    public void Leave(Demand demand)
    {
        var at = Waiting.IndexOf(demand);
        if (at < 0)
        {
            return;
        }

        Waiting.RemoveAt(at);
        Needs.RemoveAt(at);
        Since = Waiting.Count == 0 ? default : Waiting.Min(d => d.Since);
    }
}

/// <summary>What a function keeps for itself while it says so.</summary>
/// <param name="Provisioned">Instances that are never asked to yield.</param>
/// <param name="ReservedMilliCards">Part of the quota that no other function may take.</param>
/// <param name="StatedAt">When it said so last.</param>
internal sealed record Kept(int Provisioned, int ReservedMilliCards, DateTimeOffset StatedAt);

/// <summary>What one function waits for.</summary>
/// <param name="account">Its owner.</param>
/// <param name="stated">As it stated it last.</param>
/// <param name="shape">What each instance needs, as placement reads it.</param>
internal sealed class Demand(Account account, CapacityDemand stated, Shape shape)
{
    public Account Account { get; } = account;

    public CapacityDemand Stated { get; } = stated;

    public Shape Shape { get; } = shape;

    public required DateTimeOffset StatedAt { get; init; }

    public required DateTimeOffset Since { get; init; }

    /// <summary>Instances still to grant.</summary>
    public int More { get; set; }

    /// <summary>Of <see cref="More"/> so many are to be there whether or not anything waits: they go ahead.</summary>
    public int Ahead { get; set; }

    public Blocked Blocked { get; set; }

    /// <summary>To be tried everywhere in the next pass.</summary>
    public bool Fresh { get; set; }

    /// <summary>The order in which it is out: see <see cref="QueueOrder.Next"/>.</summary>
    public QueueOrder? OutOf { get; set; }

    /// <summary>Number of the grant it last got: functions of an account take turns.</summary>
    public long LastServed { get; set; }

    /// <summary>Longest that a grant can keep what it took: what was not stated counts as the longest there is.</summary>
    public TimeSpan RunLimit => Stated.RunLimit > TimeSpan.Zero ? Stated.RunLimit : TimeSpan.FromDays(1);

    /// <summary>Priority class that rises by one for every ten minutes of waiting, so that no class starves.</summary>
    public int AgedClass(DateTimeOffset now) => (int)Math.Clamp(Stated.Priority + ((now - Since).Ticks / TimeSpan.TicksPerMinute / 10), 0, 9);
}

/// <summary>
/// Who is next: the account that holds least for its weight, of equals the one that waits longest; in it what is to be
/// provisioned, then the highest aged class; in that the function that was served longest ago; then who waits longest; then by name, so that a replay
/// decides alike.
/// </summary>
internal sealed class QueueOrder
{
    private readonly List<Account> accounts;
    private readonly DateTimeOffset now;
    private readonly RoomBound? bound;
    private int first;

    /// <summary>Orders the demands of accounts as of a moment, and the list of accounts with them.</summary>
    /// <param name="accounts">Accounts; quick if the list is nearly in order, as it is after the last time.</param>
    /// <param name="now">The moment.</param>
    /// <param name="bound">More than this of anything fits nowhere, so who asks for it is out; null bounds nothing.</param>
    public QueueOrder(List<Account> accounts, DateTimeOffset now, RoomBound? bound = null)
    {
        this.now = now;
        this.bound = bound;
        this.accounts = accounts;
        for (var i = 1; i < accounts.Count; i++)
        {
            for (var at = i; at > 0 && Compare(accounts[at - 1], accounts[at]) > 0; at--)
            {
                (accounts[at - 1], accounts[at]) = (accounts[at], accounts[at - 1]);
            }
        }
    }

    /// <summary>
    /// The next of those that may be served, or null. It keeps its turn until it may not; whoever may not when its turn
    /// comes is out for good. Most of those who are far behind are never looked at. Between two calls an account may
    /// only have come to hold more.
    /// </summary>
    public Demand? Next(Predicate<Demand> mayBeServed)
    {
        while (first < accounts.Count)
        {
            for (var i = first; i + 1 < accounts.Count && Compare(accounts[i], accounts[i + 1]) > 0; i++)
            {
                (accounts[i], accounts[i + 1]) = (accounts[i + 1], accounts[i]);
            }

            Demand? next = null;
            var needs = CollectionsMarshal.AsSpan(accounts[first].Needs);
            for (var i = 0; i < needs.Length; i++)
            {
                if (bound is { } most && !most.Admits(needs[i]))
                {
                    continue;
                }

                var demand = accounts[first].Waiting[i];
                if (demand.OutOf == this)
                {
                    continue;
                }

                if (!mayBeServed(demand))
                {
                    demand.OutOf = this;
                }
                else if (next is null || Compare(demand, next, now) < 0)
                {
                    next = demand;
                }
            }

            if (next is not null)
            {
                return next;
            }

            first++;
        }

        return null;
    }

    /// <summary>The place of a demand among those of its account, from 1.</summary>
    public static int RankInAccount(Demand demand, DateTimeOffset now) => 1 + demand.Account.Waiting.Count(other => Compare(other, demand, now) < 0);

    /// <summary>The place of a demand among all that wait, from 1.</summary>
    public static int RankOf(Demand demand, IEnumerable<Demand> all, DateTimeOffset now) => 1 + all.Count(other =>
        (other.Account == demand.Account ? Compare(other, demand, now) : Compare(other.Account, demand.Account)) < 0);

    private static int Compare(Account a, Account b) =>
        a.Share != b.Share ? a.Share.CompareTo(b.Share)
        : a.Since != b.Since ? a.Since.CompareTo(b.Since)
        : string.CompareOrdinal(a.Name, b.Name);

    private static int Compare(Demand a, Demand b, DateTimeOffset now)
    {
        var (aClass, bClass) = (a.AgedClass(now), b.AgedClass(now));
        return (a.Ahead > 0) != (b.Ahead > 0) ? (a.Ahead > 0 ? -1 : 1)
            : aClass != bClass ? bClass.CompareTo(aClass)
            : a.LastServed != b.LastServed ? a.LastServed.CompareTo(b.LastServed)
            : a.Since != b.Since ? a.Since.CompareTo(b.Since)
            : string.CompareOrdinal(a.Stated.Function, b.Stated.Function);
    }
}
