using System.Globalization;
using GpuTasks.Quota.Placement;
using GpuTasks.Simulation;

namespace GpuTasks.Benchmarks;

/// <summary>Figures of the platform and of the region's core, as lines <c>figure NAME VALUE UNIT</c>.</summary>
internal static class Program
{
    private static async Task<int> Main(string[] arguments)
    {
        switch (arguments)
        {
            case ["platform", .. var rest]:
                return await Platform.PlatformBench.RunAsync(quick: rest.Contains("quick"), part: rest.FirstOrDefault(word => word is "stores" or "containers" or "sizes"));
            case ["floor", .. var rest]:
                return await Platform.Floor.RunAsync(rest);
            case ["silo", .. var rest]:
                return await Platform.NoopSilo.RunAsync(rest);
            case ["placement", "--trace", var folder, ..]:
                return Placement(folder, Option(arguments, "--seeds", 5), arguments.Contains("--all"), Text(arguments, "--list"));
            case ["queue", ..]:
                return Queue(Option(arguments, "--seeds", 1));
            case ["decision", ..]:
                return Decision();
            default:
                await Console.Error.WriteLineAsync("usage: platform [quick] [stores|containers|sizes] | placement --trace DIR [--list NAME] [--seeds N] [--all] | queue [--seeds N] | decision");
                return 2;
        }
    }

    private static int Placement(string folder, int seeds, bool all, string? only)
    {
        if (OpenbTrace.Read(folder) is not { } trace)
        {
            Console.WriteLine($"skipped: no openb trace in {folder}");
            return 0;
        }

        foreach (var list in trace.Lists.Keys.Where(list => only is null || list == only))
        {
            var published = string.Join(", ", trace.Published.Where(p => p.Key.List == list).Select(p => $"{p.Key.Policy} {p.Value}"));
            Console.WriteLine($"# {list}: published {(published.Length == 0 ? "nothing" : published)}");
            Mean($"placement.{list}.at130", () => new FragmentationDescent(new ShapeMix()), list);
            if (all)
            {
                Mean($"placement.{list}.bestfit.at130", () => new BestFit(), list);
            }
        }

        return 0;

        void Mean(string name, Func<IPlacement> policy, string list)
        {
            var results = Enumerable.Range(1, seeds).Select(seed => trace.Replay(list, policy(), seed)).ToList();
            Figure(name, results.Average(), "%");
        }
    }

    private static int Queue(int seeds)
    {
        foreach (var discipline in Enum.GetValues<Discipline>())
        {
            var name = $"queue.{discipline.ToString().ToLowerInvariant()}";
            var runs = Enumerable.Range(1, seeds).Select(seed => QueueRun.Run(QueueRun.Mixed, discipline, load: 1.15, nodes: 100, arrivals: 40_000, seed)).ToList();
            Figure($"{name}.utilisation", 100 * runs.Average(r => r.Utilisation), "%");
            Figure($"{name}.slice.p99", runs.Average(r => r.Wait("slice", 99)), "s");
            Figure($"{name}.gang.p50", runs.Average(r => r.Wait("gang", 50)), "s");
            Figure($"{name}.gang.p99", runs.Average(r => r.Wait("gang", 99)), "s");
        }

        foreach (var discipline in (Discipline[])[Discipline.Greedy, Discipline.Ours])
        {
            var name = $"queue.adversarial.{discipline.ToString().ToLowerInvariant()}";
            var run = QueueRun.Run(QueueRun.Adversarial, discipline, load: 1.05, nodes: 20, arrivals: 20_000, seed: 1);
            Figure($"{name}.utilisation", 100 * run.Utilisation, "%");
            Figure($"{name}.gang.longest", run.Wait("gang", 100), "s");
        }

        return 0;
    }

    private static int Decision()
    {
        DecisionCost.Measure(nodes: 50, functions: 200, accounts: 20, ends: 5_000); // Compiled and warm.
        var cost = DecisionCost.Measure();
        Figure("lease.fill", cost.FillSeconds, "s");
        Figure("lease.fill.leases", cost.Leases, "leases");
        Figure("lease.end.rate", cost.EndsPerSecond, "1/s");
        Figure("lease.end.cpurate", cost.EndsPerCpuSecond, "1/s");
        Figure("lease.end.p50", cost.P50 / 1_000, "ms");
        Figure("lease.end.p99", cost.P99 / 1_000, "ms");
        Figure("lease.end.longest", cost.Longest / 1_000, "ms");
        Figure("lease.end.refills", cost.Regrants, "leases");
        Figure("lease.allocated", 100 * cost.Allocated, "%");
        return 0;
    }

    private static string? Text(string[] arguments, string name) =>
        Array.IndexOf(arguments, name) is >= 0 and var at && at + 1 < arguments.Length ? arguments[at + 1] : null;

    private static int Option(string[] arguments, string name, int otherwise) =>
        Array.IndexOf(arguments, name) is >= 0 and var at && at + 1 < arguments.Length ? int.Parse(arguments[at + 1], CultureInfo.InvariantCulture) : otherwise;

    private static void Figure(string name, double value, string unit) =>
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"figure {name} {value:0.###} {unit}"));
}
