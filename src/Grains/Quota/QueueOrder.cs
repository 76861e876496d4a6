using GpuTasks.Quota.Placement;

namespace GpuTasks.Quota;

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
    public HashSet<Demand> Waiting { get; } = [];

    public double Share => (double)Held / Weight;
}

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

    public Blocked Blocked { get; set; }

    /// <summary>Number of the grant it last got: functions of an account take turns.</summary>
    public long LastServed { get; set; }

    /// <summary>Longest that a grant can keep what it took: what was not stated counts as the longest there is.</summary>
    public TimeSpan RunLimit => Stated.RunLimit > TimeSpan.Zero ? Stated.RunLimit : TimeSpan.FromDays(1);

    /// <summary>Priority class that rises by one for every ten minutes of waiting, so that no class starves.</summary>
    public int AgedClass(DateTimeOffset now) => (int)Math.Clamp(Stated.Priority + ((now - Since).Ticks / TimeSpan.TicksPerMinute / 10), 0, 9);
}

/// <summary>
/// Who is next: the account that holds least for its weight, of equals the one that waits longest; in it the highest aged class; in that the function that was
/// served longest ago; then who waits longest; then by name, so that a replay decides alike.
/// </summary>
internal sealed class QueueOrder
{
    private readonly PriorityQueue<Account, (double Share, DateTimeOffset Since, string Name)> accounts = new(Comparer<(double Share, DateTimeOffset Since, string Name)>.Create(static (a, b) =>
        a.Share != b.Share ? a.Share.CompareTo(b.Share) : a.Since != b.Since ? a.Since.CompareTo(b.Since) : string.CompareOrdinal(a.Name, b.Name)));

    private readonly Dictionary<Account, PriorityQueue<Demand, (int Class, long Served, DateTimeOffset Since, string Name)>> demands = [];
    private readonly DateTimeOffset now;

    /// <summary>Orders demands as of a moment.</summary>
    public QueueOrder(IEnumerable<Demand> candidates, DateTimeOffset now)
    {
        this.now = now;
        foreach (var demand in candidates)
        {
            if (!demands.TryGetValue(demand.Account, out var queue))
            {
                demands.Add(demand.Account, queue = new(Comparer<(int Class, long Served, DateTimeOffset Since, string Name)>.Create(Compare)));
            }

            Join(queue, demand);
        }

        foreach (var (account, queue) in demands)
        {
            accounts.Enqueue(account, (account.Share, queue.UnorderedItems.Min(item => item.Priority.Since), account.Name));
        }
    }

    /// <summary>Takes the next out, or gives null when nobody is left.</summary>
    public Demand? Next()
    {
        while (accounts.TryDequeue(out var account, out var place))
        {
            if (place.Share != account.Share)
            {
                accounts.Enqueue(account, place with { Share = account.Share });
            }
            else if (demands[account].TryDequeue(out var demand, out _))
            {
                accounts.Enqueue(account, place);
                return demand;
            }
        }

        return null;
    }

    /// <summary>Puts one that got something and wants more back, behind its account's others.</summary>
    public void Again(Demand demand) => Join(demands[demand.Account], demand);

    private void Join(PriorityQueue<Demand, (int, long, DateTimeOffset, string)> queue, Demand demand) =>
        queue.Enqueue(demand, (demand.AgedClass(now), demand.LastServed, demand.Since, demand.Stated.Function));

    private static int Compare((int Class, long Served, DateTimeOffset Since, string Name) a, (int Class, long Served, DateTimeOffset Since, string Name) b) =>
        a.Class != b.Class ? b.Class.CompareTo(a.Class)
        : a.Served != b.Served ? a.Served.CompareTo(b.Served)
        : a.Since != b.Since ? a.Since.CompareTo(b.Since)
        : string.CompareOrdinal(a.Name, b.Name);
}
