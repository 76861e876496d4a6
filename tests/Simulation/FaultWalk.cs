using GpuTasks.Nodes;
using GpuTasks.Quota;
using GpuTasks.Quota.Placement;
using Microsoft.Extensions.Time.Testing;
using Orleans.Storage;

namespace GpuTasks.Simulation;

/// <summary>What a walk does.</summary>
/// <param name="Seed">The same seed walks the same way.</param>
/// <param name="Steps">Number of steps.</param>
/// <param name="Copies">Live copies of the region over one store.</param>
/// <param name="Fenced">False leaves out what nodes refuse: then the walk must find a fault.</param>
public sealed record WalkOptions(int Seed, int Steps, int Copies = 1, bool Fenced = true);

/// <summary>A rule was broken; the message names seed and step, which replay it.</summary>
public sealed class BrokenRuleException(string message) : Exception(message);

/// <summary>
/// A region, its nodes and its functions under a virtual clock, with lost, late and doubled messages, failing writes,
/// nodes that die, fall silent and come back, and orders of leases long over. After each step the machines are looked
/// at as they truly are.
/// </summary>
public sealed class FaultWalk
{
    private const int CardMiB = 16_384;
    private readonly WalkOptions options;
    private readonly Random random;
    private readonly SharedStorage storage = new();
    private readonly FakeTimeProvider time = new(new DateTimeOffset(2026, 1, 1, 0, 0, 0, TimeSpan.Zero));
    private readonly RegionCopy?[] copies;
    private readonly List<SimulatedNode> nodes = [];

    /// <summary>Messages under way: delivered in any order, some twice, some never, some much later.</summary>
    private readonly List<Func<Task>> mail = [];
    private readonly Dictionary<(string Account, string Function), IReadOnlyList<Lease>> known = [];
    private readonly Dictionary<string, long> epochs = [];
    private HashSet<string> leasedBefore = [];
    private int leaseNumber;

    private FaultWalk(WalkOptions options)
    {
        this.options = options;
        random = new Random(options.Seed);
        copies = new RegionCopy?[options.Copies];
        for (var n = 0; n < 5; n++)
        {
            nodes.Add(new SimulatedNode($"n{n}", [.. Enumerable.Range(0, n + 1).Select(i => new CardReport { Uuid = $"n{n}-gpu{i}", Type = "t4", MemoryMiB = CardMiB, Simulated = true })], options.Fenced, random));
        }
    }

    /// <summary>Leases that were told to functions.</summary>
    public int Granted { get; private set; }

    /// <summary>Writes that were refused because another copy had written.</summary>
    public int Refused { get; private set; }

    /// <summary>Containers that were started.</summary>
    public int Started { get; private set; }

    /// <summary>Walks.</summary>
    /// <exception cref="BrokenRuleException">A rule did not hold.</exception>
    public static async Task<FaultWalk> RunAsync(WalkOptions options)
    {
        var walk = new FaultWalk(options);
        for (var step = 0; step < options.Steps; step++)
        {
            walk.time.Advance(TimeSpan.FromMilliseconds(walk.random.Next(1_000)));
            await walk.StepAsync();
            walk.Check(step);
        }

        return walk;
    }

    private async Task StepAsync()
    {
        var node = nodes[random.Next(nodes.Count)];
        node.Live();
        for (var i = 0; i < 2 && mail.Count > 0; i++)
        {
            var at = random.Next(mail.Count);
            var message = mail[at];
            if (random.Next(10) > 0)
            {
                mail.RemoveAt(at); // Else it will come once more.
            }

            await message();
        }

        switch (random.Next(100))
        {
            case < 25:
                await StateAsync();
                break;
            case < 70 when node is { Alive: true, Connected: true }:
                await ReportAsync(node);
                break;
            case < 85 when node is { Alive: true, Connected: true } && node.ToRelease.Any():
                Send(() => ReleaseAsync(node, node.ToRelease.FirstOrDefault()));
                break;
            case 85 or 86 or 87 when !node.Connected:
                node.Connected = true;
                break;
            case 88 or 89 or 90 when !node.Alive:
                node.PowerOn();
                break;
            case 91:
                node.Connected = false;
                break;
            case 92 when random.Next(3) == 0:
                node.PowerOff();
                break;
            case 94:
                storage.BeforeWrite = random.Next(3) == 0 ? (_, _) => throw new TimeoutException("The store is away.") : null;
                break;
            case 95 or 96:
                storage.BeforeWrite = null;
                break;
            case 97 when random.Next(5) == 0:
                copies[random.Next(copies.Length)] = null; // Its silo died.
                break;
            case 98:
                time.Advance(TimeSpan.FromSeconds(random.Next(20)));
                break;
        }
    }

    private Task StateAsync()
    {
        var key = ($"{"ab"[random.Next(2)]}", $"f{random.Next(4)}");
        var mine = known.GetValueOrDefault(key, []);
        var demand = new CapacityDemand
        {
            Account = key.Item1,
            Function = key.Item2,
            Shape = new InstanceShape("t4", CardMiB * random.Next(1, 9) / 4, 1_000, 1_024, 512),
            MoreInstances = random.Next(3),
            HeldInstances = random.Next(2) == 0 ? mine.Count : null,
            OldestWaitingSince = time.GetUtcNow(),
            RunLimit = TimeSpan.FromSeconds(60),
        };
        foreach (var lease in mine.Where(_ => random.Next(6) == 0))
        {
            Send(() => To(lease.Node, n => n.Stop(lease.InstanceId)));
        }

        return OnSomeCopyAsync(async copy =>
        {
            var answer = await copy.StateAsync(demand);
            Granted += answer.Leases.Count(l => mine.All(m => m.InstanceId != l.InstanceId));
            Send(() =>
            {
                known[key] = answer.Leases;
                foreach (var lease in answer.Leases)
                {
                    Send(() => To(lease.Node, n => Started += n.Launch(lease) == LaunchOutcome.Accepted ? 1 : 0));
                }

                return Task.CompletedTask;
            });
        });
    }

    private Task ReportAsync(SimulatedNode node)
    {
        var report = node.Report();
        return OnSomeCopyAsync(async copy =>
        {
            var directive = await copy.ReportAsync(report);
            Send(() => To(node.Name, n => n.Follow(directive)));
        });
    }

    private Task ReleaseAsync(SimulatedNode node, string? instance) => instance is null ? Task.CompletedTask : OnSomeCopyAsync(async copy =>
    {
        await copy.ReleaseAsync(node.Name, instance);
        node.Told(instance);
    });

    private async Task OnSomeCopyAsync(Func<RegionCopy, Task> step)
    {
        var at = random.Next(copies.Length);
        try
        {
            if (copies[at] is not { Lost: false })
            {
                copies[at] = await RegionCopy.TakeOverAsync(storage, "r", time, MakeTable, _ => { }, CancellationToken.None);
                await copies[at]!.SetQuotaAsync("a", 6_500, 1);
            }

            await step(copies[at]!);
        }
        catch (InconsistentStateException)
        {
            Refused++;
        }
        catch (TimeoutException)
        {
            // The store failed: the caller repeats when it comes round again.
        }
    }

    private RegionTable MakeTable(DateTimeOffset now) =>
        new(new RegionRules(), new FragmentationDescent(new ShapeMix()), _ => $"i-{++leaseNumber}", now);

    private Task To(string name, Action<SimulatedNode> order)
    {
        var node = nodes.First(n => n.Name == name);
        if (node is { Alive: true, Connected: true })
        {
            order(node);
        }

        return Task.CompletedTask;
    }

    private void Send(Func<Task> message)
    {
        if (random.Next(10) > 0)
        {
            mail.Add(message);
        }

        if (mail.Count > 500)
        {
            mail.RemoveAt(random.Next(mail.Count));
        }
    }

    private void Check(int step)
    {
        // What the store says: never more than there is, never above a quota, numbers only grow.
        var rows = storage.Rows<LeaseTable>();
        var leases = rows.SelectMany(r => r.Leases).ToList();
        Hold(leases.Where(l => l.Account == "a").Sum(l => l.MilliCards) <= 6_500, step, "account a holds more than its quota");
        Cards(leases, step, "leased");
        var running = nodes.SelectMany(n => n.Running).Select(l => l.InstanceId).ToHashSet();
        var held = leases.Select(l => l.InstanceId).ToHashSet();
        Hold(!leasedBefore.Except(held).Any(running.Contains), step, "a lease ended while its container ran");
        leasedBefore = held;
        foreach (var row in rows)
        {
            Grows(row.Node, row.Epoch, step);
            foreach (var card in row.Cards)
            {
                Grows(card.Report.Uuid, card.Epoch, step);
            }
        }

        // What the machines say.
        Cards([.. nodes.SelectMany(n => n.Running)], step, "in use");
    }

    private void Cards(List<Lease> leases, int step, string how)
    {
        var used = new Dictionary<string, (int MiB, string Account)>();
        foreach (var lease in leases)
        {
            foreach (var share in lease.Cards)
            {
                var (mib, account) = used.GetValueOrDefault(share.Uuid, (0, lease.Account));
                Hold(mib + share.MemoryMiB <= CardMiB, step, $"card {share.Uuid} is {how} beyond its memory");
                Hold(account == lease.Account, step, $"card {share.Uuid} is {how} by two accounts");
                used[share.Uuid] = (mib + share.MemoryMiB, lease.Account);
            }
        }
    }

    private void Grows(string what, long epoch, int step)
    {
        Hold(epoch >= epochs.GetValueOrDefault(what), step, $"the epoch of {what} fell to {epoch}");
        epochs[what] = epoch;
    }

    private void Hold(bool holds, int step, string otherwise)
    {
        if (!holds)
        {
            throw new BrokenRuleException($"Seed {options.Seed}, step {step}: {otherwise}.");
        }
    }
}
