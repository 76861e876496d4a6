namespace GpuTasks.Destinations;

/// <summary>How a delivery went, as far as it concerns others to the same target.</summary>
public enum LaneReport
{
    /// <summary>The receiver answered, whatever it thinks of this delivery.</summary>
    Answered = 0,

    /// <summary>It did not answer, or says that it cannot just now.</summary>
    Away = 1,
}

/// <summary>
/// Keeps receivers from holding up one another. A target has a few places; who finds none within seconds comes back later, by
/// its stored time. A target that is away is closed for a while, then one delivery finds out whether it is back. One of these
/// a silo; it remembers nothing that matters.
/// </summary>
/// <param name="clock">Clock.</param>
/// <param name="perTarget">Deliveries at once to one target of one account.</param>
/// <param name="perAccount">Deliveries at once for one account.</param>
public sealed class DeliveryLanes(TimeProvider clock, int perTarget, int perAccount)
{
    /// <summary>Deliveries in a row that find a target away before it is closed.</summary>
    public const int FailuresToClose = 5;

    /// <summary>Longest time that a target is closed, unless it asks for more itself.</summary>
    public static readonly TimeSpan LongestClosed = TimeSpan.FromSeconds(60);

    /// <summary>Longest time that a target is closed because it asks for it. What it asks of one delivery goes further.</summary>
    public static readonly TimeSpan LongestAsked = TimeSpan.FromMinutes(10);

    /// <summary>How long a delivery waits for a place.</summary>
    public static readonly TimeSpan PlacePatience = TimeSpan.FromSeconds(5);

    private const int MaxWaiting = 64;
    private const int MaxLanes = 10_000;

    private readonly Lock gate = new();
    private readonly Dictionary<(string Account, string Target), Lane> lanes = [];
    private readonly Dictionary<string, int> accounts = new(StringComparer.Ordinal);

    /// <summary>Takes a place.</summary>
    /// <param name="account">Whose delivery it is.</param>
    /// <param name="target">Host and port.</param>
    /// <returns>The place, to be given back; or how long to stay away.</returns>
    public async Task<(Place? Place, TimeSpan Busy)> EnterAsync(string account, string target)
    {
        Task<bool> turn;
        Lane lane;
        lock (gate)
        {
            lane = LaneOf((account, target));
            if (Refusal(lane) is { } busy)
            {
                return (null, busy);
            }

            // An account with many dead targets must not take all there is.
            if (lane.Waiting >= MaxWaiting || accounts.GetValueOrDefault(account) >= perAccount)
            {
                return (null, TimeSpan.FromSeconds(1));
            }

            lane.Waiting++;
            accounts[account] = accounts.GetValueOrDefault(account) + 1;
            turn = lane.Places.WaitAsync(PlacePatience);
        }

        var taken = await turn;
        lock (gate)
        {
            lane.Waiting--;
            var busy = taken ? Refusal(lane) : TimeSpan.FromSeconds(1);
            if (busy is null)
            {
                lane.InUse++;
                lane.IsProbed = lane.Failures >= FailuresToClose;
                return (new Place(this, lane, account), default);
            }

            LeaveAccount(account);
            if (taken)
            {
                lane.Places.Release();
            }

            return (null, busy.Value);
        }
    }

    private TimeSpan? Refusal(Lane lane)
    {
        var closed = lane.ClosedUntil - clock.GetUtcNow();
        return closed > TimeSpan.Zero ? closed : lane.IsProbed ? TimeSpan.FromSeconds(1) : null;
    }

    private Lane LaneOf((string Account, string Target) key)
    {
        if (lanes.TryGetValue(key, out var lane))
        {
            return lane;
        }

        if (lanes.Count >= MaxLanes)
        {
            var now = clock.GetUtcNow();
            foreach (var old in lanes.Where(pair => pair.Value is { InUse: 0, Waiting: 0 } && pair.Value.ClosedUntil <= now).Select(pair => pair.Key).ToList())
            {
                lanes.Remove(old);
            }
        }

        return lanes[key] = new Lane(perTarget);
    }

    private void LeaveAccount(string account)
    {
        if (--accounts[account] == 0)
        {
            accounts.Remove(account);
        }
    }

    private void Leave(Lane lane, string account, LaneReport report, TimeSpan? asked)
    {
        lock (gate)
        {
            lane.InUse--;
            lane.IsProbed = false;
            LeaveAccount(account);
            lane.Failures = report is LaneReport.Answered ? 0 : lane.Failures + 1;
            var closed = lane.Failures < FailuresToClose ? TimeSpan.Zero : TimeSpan.FromSeconds(Math.Min(LongestClosed.TotalSeconds, 1 << Math.Min(lane.Failures - FailuresToClose, 10)));
            closed = report is LaneReport.Away && asked > closed ? (asked > LongestAsked ? LongestAsked : asked.Value) : closed;
            lane.ClosedUntil = closed > TimeSpan.Zero ? clock.GetUtcNow() + closed : DateTimeOffset.MinValue;
            lane.Places.Release();
        }
    }

    /// <summary>A place in a lane. It is given back once.</summary>
    public sealed class Place
    {
        private readonly DeliveryLanes owner;
        private readonly Lane lane;
        private readonly string account;

        internal Place(DeliveryLanes owner, Lane lane, string account) => (this.owner, this.lane, this.account) = (owner, lane, account);

        /// <summary>Gives it back.</summary>
        /// <param name="report">How it went.</param>
        /// <param name="asked">For how long the target wants no more of this, or null.</param>
        public void Leave(LaneReport report, TimeSpan? asked = null) => owner.Leave(lane, account, report, asked);
    }

    internal sealed class Lane(int places)
    {
        public SemaphoreSlim Places { get; } = new(places);

        public int Waiting { get; set; }

        public int InUse { get; set; }

        public int Failures { get; set; }

        public bool IsProbed { get; set; }

        public DateTimeOffset ClosedUntil { get; set; }
    }
}
