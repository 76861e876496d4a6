using System.Collections.Concurrent;

namespace GpuTasks.SystemTests;

/// <summary>What can go wrong with a cluster, done on purpose.</summary>
/// <param name="lab">The cluster.</param>
/// <param name="load">Its callers.</param>
/// <param name="recorder">What its containers see.</param>
/// <param name="random">Chance.</param>
/// <param name="thorough">With those that take more than a minute.</param>
/// <param name="only">Kinds to do; all if empty.</param>
internal sealed class Faults(Lab lab, Load load, Recorder recorder, Random random, bool thorough, string[] only)
{
    private static readonly string[] Quick =
    [
        "gateway-kill", "control-kill", "region-kill", "node-kill", "region-freeze", "node-freeze", "engine-restart", "engine-kill",
        "postgres-kill", "postgres-freeze", "link-down", "disk-full", "receiver-down", "report-twice", "rolling-restart", "everything-kill",
    ];

    /// <summary>Those that take more than a minute.</summary>
    private static readonly string[] Long = ["link-down-past-timeout"];

    /// <summary>After these it is quiet for so long, every other time, that what their recovery takes can be measured.</summary>
    private static readonly string[] Measured = ["gateway-kill", "control-kill", "region-kill"];

    private const int MostTries = 5;

    private readonly string[] kinds = only.Length > 0 ? only : thorough ? [.. Quick, .. Long] : Quick;

    /// <summary>Every fault that happened: kind, when it began and when it was over, in milliseconds of the monotonic clock.</summary>
    public ConcurrentQueue<(string Kind, long From, long To)> Happened { get; } = new();

    /// <summary>By kind of fault, in seconds: how long it took until a node that had been away told the truth again, counted from when it could.</summary>
    public ConcurrentQueue<(string Kind, double Seconds)> NodeRecoveries { get; } = new();

    /// <summary>Tasks whose end was stored after the node that reported it had been killed, and before it was started again.</summary>
    public ConcurrentQueue<string> ReportedTwice { get; } = new();

    /// <summary>The kinds that a list names, with commas between; none if it is empty.</summary>
    /// <exception cref="ArgumentException">One of them does not exist.</exception>
    public static string[] Named(string list)
    {
        var named = list.Split(',', StringSplitOptions.RemoveEmptyEntries);
        return named.Except(Quick).Except(Long).FirstOrDefault() is { } unknown
            ? throw new ArgumentException($"There is no kind of fault '{unknown}', but these: {string.Join(", ", Quick.Concat(Long))}.", nameof(list))
            : named;
    }

    /// <summary>All kinds once, in an order by chance.</summary>
    public string[] AllShuffled()
    {
        var all = kinds.ToArray();
        random.Shuffle(all);
        return all;
    }

    /// <summary>Any kind.</summary>
    public string Any() => kinds[random.Next(kinds.Length)];

    public async Task DoAsync(string kind)
    {
        var from = Environment.TickCount64;
        switch (kind)
        {
            case "gateway-kill":
                Pick(lab.Gateways).Signal(Signals.Kill);
                break;
            case "control-kill":
                Pick(lab.Controls).Signal(Signals.Kill);
                break;
            case "region-kill":
                lab.RegionHolder().Signal(Signals.Kill);
                break;
            case "node-kill":
                var killed = random.Next(lab.Nodes.Count);
                lab.Nodes[killed].Signal(Signals.Kill);
                await SeenAgainAsync(kind, killed);
                break;
            case "region-freeze":
                await FreezeAsync(lab.RegionHolder(), Seconds(15, 60));
                break;
            case "node-freeze":
                var frozen = random.Next(lab.Nodes.Count);
                await FreezeAsync(lab.Nodes[frozen], Seconds(15, 75));
                await SeenAgainAsync(kind, frozen);
                break;
            case "engine-restart":
                await lab.RestartEngineAsync(random.Next(lab.Nodes.Count));
                break;
            case "engine-kill":
                await lab.KillEngineAsync(random.Next(lab.Nodes.Count), containerdToo: random.Next(2) == 0);
                break;
            case "postgres-kill":
                await lab.Postgres.KillAsync();
                await Task.Delay(Seconds(2, 10));
                await lab.Postgres.StartAsync();
                break;
            case "postgres-freeze":
                lab.Postgres.Freeze(frozen: true);
                await Task.Delay(Seconds(10, 30));
                lab.Postgres.Freeze(frozen: false);
                break;
            case "link-down":
                var cut = random.Next(lab.Nodes.Count);
                await lab.Network.SetLinkAsync(cut + 1, up: false);
                await Task.Delay(Seconds(20, random.Next(2) == 0 ? 20 : 90));
                await lab.Network.SetLinkAsync(cut + 1, up: true);
                await SeenAgainAsync(kind, cut);
                break;
            case "link-down-past-timeout":
                // So long that instances with a short timeout have ended themselves, and their tasks run elsewhere.
                var lost = random.Next(lab.Nodes.Count);
                await lab.Network.SetLinkAsync(lost + 1, up: false);
                await Task.Delay(TimeSpan.FromSeconds(110));
                await lab.Network.SetLinkAsync(lost + 1, up: true);
                await SeenAgainAsync(kind, lost);
                break;
            case "disk-full":
                var filled = random.Next(lab.Nodes.Count);
                await lab.FillDiskAsync(filled, full: true);
                await Task.Delay(Seconds(10, 30));
                await lab.FillDiskAsync(filled, full: false);
                break;
            case "receiver-down":
                lab.Receiver.Stop();
                await Task.Delay(Seconds(10, 60));
                lab.Receiver.Start();
                break;
            case "report-twice":
                await ReportTwiceAsync(kind, random.Next(lab.Nodes.Count));
                break;
            case "rolling-restart":
                foreach (var member in (Member[])[Pick(lab.Gateways), Pick(lab.Controls), Pick(lab.Nodes)])
                {
                    await member.EndAsync(Signals.Terminate);
                    member.Start();
                }

                break;
            case "everything-kill":
                await Task.WhenAll(lab.Members.Select(member => member.EndAsync(Signals.Kill)));
                await Task.Delay(Seconds(10, 120));
                foreach (var member in lab.Members)
                {
                    member.Start();
                }

                break;
            default:
                throw new ArgumentOutOfRangeException(nameof(kind), kind, "No such fault.");
        }

        Happened.Enqueue((kind, from, Environment.TickCount64));
        if (Measured.Contains(kind) && random.Next(2) == 0)
        {
            await Task.Delay(TimeSpan.FromSeconds(15));
        }
    }

    private TimeSpan Seconds(double quick, double whole) => TimeSpan.FromSeconds(thorough ? whole : quick);

    private T Pick<T>(List<T> all) => all[random.Next(all.Count)];

    private static async Task FreezeAsync(Member member, TimeSpan time)
    {
        // By its id of now: were it started anew meanwhile, the new one must not be touched.
        if (member.Id is > 0 and var id)
        {
            Signals.Send(id, Signals.Stop);
            await Task.Delay(time);
            Signals.Send(id, Signals.Continue);
        }
    }

    /// <summary>
    /// A run ends while the store stands still, so that its node's report is not stored; the node is killed, and then the store
    /// goes on. An end that is stored before the node is started again was reported to a task by a node that never heard of that:
    /// who comes after it reports the same end again.
    /// </summary>
    private async Task ReportTwiceAsync(string kind, int node)
    {
        // It works as far as a run ends there in time: calls that the store holds up are given up after 5 s.
        for (var (tries, before) = (0, ReportedTwice.Count); tries < MostTries && ReportedTwice.Count == before; tries++)
        {
            await EndOfRunAsync(node, Environment.TickCount64, TimeSpan.FromSeconds(30));
            lab.Postgres.Freeze(frozen: true);
            List<SeenRun> ended;
            try
            {
                var since = Environment.TickCount64;
                await EndOfRunAsync(node, since, TimeSpan.FromSeconds(3));
                await Task.Delay(TimeSpan.FromMilliseconds(500));
                await lab.Nodes[node].EndAsync(Signals.Kill);
                ended = recorder.Runs(node).Where(run => run.Answered && run.LastSeen > since).ToList();
            }
            finally
            {
                lab.Postgres.Freeze(frozen: false);
            }

            for (var giveUpAt = DateTime.UtcNow.AddSeconds(4); ended.Count > 0 && DateTime.UtcNow < giveUpAt; await Task.Delay(100))
            {
                foreach (var run in ended.ToArray())
                {
                    if (await load.HasEndedAsync(run.Task))
                    {
                        ReportedTwice.Enqueue(run.Task);
                        ended.Remove(run);
                    }
                }
            }

            lab.Nodes[node].Start();
            await SeenAgainAsync(kind, node);
        }
    }

    /// <summary>Waits until runs on a node have answered since some time; none if that takes too long.</summary>
    private async Task<List<SeenRun>> EndOfRunAsync(int node, long since, TimeSpan patience)
    {
        for (var giveUpAt = DateTime.UtcNow + patience; DateTime.UtcNow < giveUpAt; await Task.Delay(20))
        {
            if (recorder.Runs(node).Where(run => run.Answered && run.LastSeen > since).ToList() is { Count: > 0 } runs)
            {
                return runs;
            }
        }

        return [];
    }

    /// <summary>Waits until the region has heard of a node again, counted from when its process was there.</summary>
    private async Task SeenAgainAsync(string kind, int node)
    {
        var since = DateTimeOffset.UtcNow.ToUnixTimeMilliseconds();
        var from = Environment.TickCount64;
        for (var patience = DateTime.UtcNow.AddMinutes(2); DateTime.UtcNow < patience; await Task.Delay(200))
        {
            var answer = await lab.Operator.SendAsync(HttpMethod.Get, "/v1/nodes");
            var seen = answer.Json["nodes"]!.AsArray().FirstOrDefault(row => (string)row!["node"]! == lab.Nodes[node].Name);
            if (seen is not null && (bool)seen["adopted"]! && (long)seen["lastSeenAt"]! > since)
            {
                NodeRecoveries.Enqueue((kind, (Environment.TickCount64 - from) / 1000.0));
                return;
            }
        }
    }
}
