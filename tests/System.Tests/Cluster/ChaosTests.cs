using System.Globalization;
using System.Text;

namespace GpuTasks.SystemTests;

/// <summary>
/// Everything that can go wrong with a cluster goes wrong under load, and at the end nothing was lost, doubled or forgotten.
/// In <c>./test</c> each fault comes once; <c>./chaos</c> goes on for as long as it is told to, with longer faults.
/// </summary>
[Collection(WholeMachine.Name)]
public sealed class ChaosTests
{
    private static readonly TimeSpan Settling = TimeSpan.FromMinutes(5);

    /// <summary>So long everything works together before the first fault.</summary>
    private static readonly TimeSpan Calm = TimeSpan.FromSeconds(15);

    [Fact]
    public async Task Nothing_is_lost_doubled_or_forgotten_whatever_is_killed()
    {
        var minutes = Setting("GPUTASKS_CHAOS_MINUTES");
        var seed = (int)(Setting("GPUTASKS_CHAOS_SEED") ?? Random.Shared.Next(1_000_000));

        // Only ./chaos may leave kinds out: in ./test each comes once.
        var only = minutes is null ? [] : Faults.Named(Environment.GetEnvironmentVariable("GPUTASKS_CHAOS_ONLY") ?? "");
        var chosen = only.Length == 0 ? "" : $" --only {string.Join(',', only)}";
        var again = string.Create(CultureInfo.InvariantCulture, $"The faults come in the same order with: {(minutes is { } asked ? $"./chaos --minutes {asked} --seed {seed}{chosen}" : $"GPUTASKS_CHAOS_SEED={seed} ./test System.Tests")}");
        Say(again);
        try
        {
            await RunAsync(seed, minutes, only, again);
        }
        catch (Exception e) when (e is not Xunit.Sdk.XunitException)
        {
            throw new InvalidOperationException($"Chaos did not come to its end: {e.Message} {again}", e);
        }
    }

    /// <summary>Also done before each run; asked for alone by <c>./chaos</c> when it is interrupted.</summary>
    [Fact(Explicit = true)]
    public Task What_a_killed_run_left_is_taken_away() => Lab.CleanAsync();

    private static async Task RunAsync(int seed, double? minutes, string[] only, string again)
    {
        var cancellation = TestContext.Current.CancellationToken;
        var random = new Random(seed);
        await using var lab = await Lab.StartAsync();
        using var load = new Load(lab, seed);
        await using var recorder = new Recorder(Enumerable.Range(0, lab.Nodes.Count).Select(lab.InstancesOf));
        var faults = new Faults(lab, load, recorder, random, thorough: minutes >= 15, only);
        await load.PrepareAsync();
        var checker = new Checker(lab, load, recorder, faults);
        using var ending = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        var loading = load.RunAsync(perSecond: 3, ending.Token);
        var looking = checker.LookAsync(ending.Token);
        try
        {
            await Task.Delay(Calm, cancellation);
            foreach (var node in Enumerable.Range(0, lab.Nodes.Count))
            {
                Assert.NotEmpty(await lab.ContainersAsync(node));
            }

            Assert.All(lab.Members, member => Assert.Equal(0, member.Ends));
            var until = DateTime.UtcNow.AddMinutes(minutes ?? 0);
            var kinds = new Queue<string>(faults.AllShuffled());
            while (minutes is null ? kinds.Count > 0 : DateTime.UtcNow < until)
            {
                var kind = kinds.TryDequeue(out var next) ? next : faults.Any();
                await Task.Delay(TimeSpan.FromSeconds(2 + (random.NextDouble() * 5)), cancellation);
                Say($"{DateTime.UtcNow:HH:mm:ss} {kind}, {load.Sent.Count} tasks sent");
                await faults.DoAsync(kind);
            }

            await Task.Delay(TimeSpan.FromSeconds(5), cancellation);
        }
        finally
        {
            await ending.CancelAsync();
            await loading;
            await looking;
        }

        var report = await checker.ReportAsync(seed, again, Settling);
        Say(report.Text);
        if (Environment.GetEnvironmentVariable("GPUTASKS_CHAOS_REPORT") is { Length: > 0 } place)
        {
            await File.WriteAllTextAsync(place, report.Text, Encoding.UTF8, cancellation);
        }

        Assert.True(report.Violations == 0, report.Text);
    }

    private static void Say(string text)
    {
        TestContext.Current.TestOutputHelper?.WriteLine(text);
        TestContext.Current.SendDiagnosticMessage("{0}", text);
    }

    private static double? Setting(string name) =>
        double.TryParse(Environment.GetEnvironmentVariable(name), NumberStyles.Float, CultureInfo.InvariantCulture, out var value) ? value : null;
}
