using System.Globalization;
using System.Text;

namespace GpuTasks.SystemTests;

/// <summary>
/// Everything that can go wrong with a cluster goes wrong under load, and at the end nothing was lost, doubled or forgotten.
/// <c>./chaos</c> runs the same for longer.
/// </summary>
public sealed class ChaosTests
{
    private static readonly TimeSpan Settling = TimeSpan.FromMinutes(5);

    [Fact(Explicit = true)]
    public async Task Nothing_is_lost_doubled_or_forgotten_whatever_is_killed()
    {
        var minutes = Setting("GPUTASKS_CHAOS_MINUTES");
        var seed = (int)(Setting("GPUTASKS_CHAOS_SEED") ?? Random.Shared.Next(1_000_000));
        TestContext.Current.SendDiagnosticMessage("seed {0}", seed);
        var cancellation = TestContext.Current.CancellationToken;
        var random = new Random(seed);
        await using var lab = await Lab.StartAsync();
        using var load = new Load(lab, seed);
        var faults = new Faults(lab, random, thorough: minutes >= 15);
        await using var recorder = new Recorder(Enumerable.Range(0, lab.Nodes.Count).Select(lab.InstancesOf));
        await load.PrepareAsync();
        var checker = new Checker(lab, load, recorder, faults);
        using var ending = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        var loading = load.RunAsync(perSecond: 3, ending.Token);
        var looking = checker.LookAsync(ending.Token);
        try
        {
            var until = DateTime.UtcNow.AddMinutes(minutes ?? 0);
            var kinds = new Queue<string>(faults.AllShuffled());
            while (kinds.Count > 0 || DateTime.UtcNow < until)
            {
                var kind = kinds.TryDequeue(out var next) ? next : faults.Any();
                await Task.Delay(TimeSpan.FromSeconds(2 + (random.NextDouble() * 5)), cancellation);
                TestContext.Current.SendDiagnosticMessage("{0}", $"{DateTime.UtcNow:HH:mm:ss} {kind}, {load.Sent.Count} tasks sent");
                await faults.DoAsync(kind);
                if (minutes is not null && DateTime.UtcNow >= until)
                {
                    break;
                }
            }

            await Task.Delay(TimeSpan.FromSeconds(5), cancellation);
        }
        finally
        {
            await ending.CancelAsync();
            await loading;
            await looking;
        }

        var report = await checker.ReportAsync(seed, Settling);
        TestContext.Current.SendDiagnosticMessage("{0}", report.Text);
        if (Environment.GetEnvironmentVariable("GPUTASKS_CHAOS_REPORT") is { Length: > 0 } place)
        {
            await File.WriteAllTextAsync(place, report.Text, Encoding.UTF8, cancellation);
        }

        Assert.True(report.Violations == 0, report.Text);
    }

    /// <summary>Also done before each run; asked for alone by <c>./chaos</c> when it is interrupted.</summary>
    [Fact(Explicit = true)]
    public Task What_a_killed_run_left_is_taken_away() => Lab.CleanAsync();

    private static double? Setting(string name) =>
        double.TryParse(Environment.GetEnvironmentVariable(name), NumberStyles.Float, CultureInfo.InvariantCulture, out var value) ? value : null;
}
