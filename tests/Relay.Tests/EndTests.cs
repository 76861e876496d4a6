using System.Diagnostics;
using System.Net;

namespace GpuTasks.Relay.Tests;

/// <summary>Runs that end otherwise than by their answer.</summary>
public sealed class EndTests
{
    /// <summary>Leaves at SIGTERM; the echo in front tells that the trap is set.</summary>
    private const string Obedient = "trap 'echo bye; exit 3' TERM; echo set; while :; do sleep 0.05; done";

    private const string Deaf = "trap '' TERM; echo set; while :; do sleep 0.05; done";

    [Fact]
    public async Task Cancelling_the_only_run_ends_the_process_by_sigterm()
    {
        using var function = new ScriptedFunction();
        await using var relay = await StartAsync(function, Obedient);
        await relay.PutAsync("r", "");
        using var call = await function.NextAsync();
        await relay.CancelAsync("r");
        await relay.CancelAsync("r");
        var run = await relay.EndOfAsync("r");
        Assert.Equal(Outcomes.Cancelled, run.Outcome);
        var status = await relay.StateAsync(States.Ended);
        Assert.Equal((3, null), (status.Child.ExitCode, status.Child.Signal));
        Assert.Null(status.Failure);
        Assert.EndsWith("bye\n", relay.LogText(), StringComparison.Ordinal);
        Assert.Equal(HttpStatusCode.Accepted, (await relay.CallAsync(HttpMethod.Delete, "runs/r")).Status);
    }

    [Fact]
    public async Task A_process_that_ignores_sigterm_is_killed_after_the_grace()
    {
        using var function = new ScriptedFunction();
        await using var relay = await StartAsync(function, Deaf, config => config.GraceMs = 700);
        await relay.PutAsync("r", "");
        using var call = await function.NextAsync();
        var since = Stopwatch.StartNew();
        await relay.CancelAsync("r");
        var stopping = await relay.StateAsync(States.Stopping);
        Assert.Contains("retiring", (await relay.TryPutAsync("r2", [])).Text, StringComparison.Ordinal);
        Assert.Equal(RunStates.Running, stopping.Runs.Single().State);
        Assert.Equal(Outcomes.Cancelled, (await relay.EndOfAsync("r")).Outcome);
        Assert.InRange(since.ElapsedMilliseconds, 700, 20_000);
        Assert.Equal(Native.SigKill, (await relay.StateAsync(States.Ended)).Child.Signal);
    }

    [Fact]
    public async Task Without_contact_for_too_long_a_run_is_ended_and_says_why()
    {
        using var function = new ScriptedFunction();
        await using var relay = await StartAsync(function, Deaf, config => (config.GraceMs, config.NodeLostTimeoutMs, config.PreStop) = (300, 4_000, new HookConfig()));
        await relay.PutAsync("r", "");
        using var call = await function.NextAsync();
        await relay.ExitAsync();
        var last = relay.StatusFile();
        Assert.Equal(Outcomes.ContactLost, last.Runs.Single().Outcome);
        Assert.Equal(Native.SigKill, last.Child.Signal);
    }

    [Fact]
    public async Task Contact_keeps_a_run_and_an_old_word_does_not()
    {
        using var function = new ScriptedFunction();
        await using var relay = await StartAsync(function, Obedient, config => config.NodeLostTimeoutMs = 5_000);
        await relay.PutAsync("r", "");
        using var call = await function.NextAsync();
        var since = Stopwatch.StartNew();
        while (since.Elapsed < TimeSpan.FromSeconds(7))
        {
            Assert.Equal(HttpStatusCode.NoContent, (await relay.CallAsync(HttpMethod.Post, "contact?ageMs=0")).Status);
            await Task.Delay(100, Deadline.Token);
        }

        Assert.Equal(States.Ready, (await relay.StatusAsync()).State);
        Assert.Equal(HttpStatusCode.NoContent, (await relay.CallAsync(HttpMethod.Post, "contact?ageMs=60000")).Status);
        await relay.ExitAsync();
        Assert.Equal(Outcomes.ContactLost, relay.StatusFile().Runs.Single().Outcome);
    }

    [Fact]
    public async Task An_answer_that_comes_whole_after_the_cancel_stands()
    {
        using var function = new ScriptedFunction();
        await using var relay = await StartAsync(function, Deaf, config => config.GraceMs = 30_000);
        await relay.PutAsync("r", "");
        using var call = await function.NextAsync();
        await relay.CancelAsync("r");
        await relay.StateAsync(States.Stopping);
        await call.AnswerAsync("in time");
        Assert.Equal(Outcomes.Answered, (await relay.EndOfAsync("r")).Outcome);
        Assert.Equal("in time", await relay.ResponseAsync("r"));
    }

    [Fact]
    public async Task Cancelling_beside_others_closes_the_connection_and_retires()
    {
        using var function = new ScriptedFunction();
        await using var relay = await StartAsync(function, Obedient, config => config.Concurrency = 3);
        await relay.PutAsync("a", "");
        using var a = await function.NextAsync();
        await relay.PutAsync("b", "");
        using var b = await function.NextAsync();
        await relay.CancelAsync("a");
        await a.ClosedByRelayAsync();
        Assert.Equal(Outcomes.Cancelled, (await relay.EndOfAsync("a")).Outcome);
        var status = await relay.StatusAsync();
        Assert.Equal(States.Retiring, status.State);
        Assert.True(status.Child.Running);
        Assert.Contains("retiring", (await relay.TryPutAsync("c", [])).Text, StringComparison.Ordinal);
        await b.AnswerAsync("b");
        Assert.Equal(Outcomes.Answered, (await relay.EndOfAsync("b")).Outcome);
    }

    [Fact]
    public async Task At_its_limit_a_run_is_ended_as_timed_out()
    {
        using var function = new ScriptedFunction();
        await using var relay = await StartAsync(function, Obedient);
        await relay.PutAsync("r", "", RelayUnderTest.Order(limit: TimeSpan.FromMilliseconds(600)));
        using var call = await function.NextAsync();
        var run = await relay.EndOfAsync("r");
        Assert.Equal(Outcomes.TimedOut, run.Outcome);
        Assert.Contains("0.6 s", run.Message, StringComparison.Ordinal);
        Assert.InRange(run.DurationMs, 600, 20_000);
        await relay.StateAsync(States.Ended);
    }

    [Fact]
    public async Task At_its_limit_beside_others_only_its_connection_is_closed()
    {
        using var function = new ScriptedFunction();
        await using var relay = await StartAsync(function, Obedient, config => config.Concurrency = 2);
        await relay.PutAsync("long", "");
        using var other = await function.NextAsync();
        await relay.PutAsync("short", "", RelayUnderTest.Order(limit: TimeSpan.FromMilliseconds(200)));
        using var call = await function.NextAsync();
        Assert.Equal(Outcomes.TimedOut, (await relay.EndOfAsync("short")).Outcome);
        Assert.Equal(States.Retiring, (await relay.StatusAsync()).State);
        await other.AnswerAsync();
        Assert.Equal(Outcomes.Answered, (await relay.EndOfAsync("long")).Outcome);
    }

    [Theory]
    [InlineData("""{"mode":"crash","exitCode":7}""", "exit code 7", 7, null)]
    [InlineData("""{"mode":"crash","signal":9}""", "signal 9", null, 9)]
    public async Task A_process_that_ends_within_a_run_is_a_crash(string body, string told, int? code, int? signal)
    {
        await using var relay = await RelayUnderTest.WithEchoAsync();
        await relay.ReadyAsync();
        await relay.PutAsync("r", body);
        var run = await relay.EndOfAsync("r");
        Assert.Equal(Outcomes.Crashed, run.Outcome);
        Assert.Contains(told, run.Message, StringComparison.Ordinal);
        var status = await relay.StateAsync(States.Failed);
        Assert.Equal(Failures.Exited, status.Failure?.Kind);
        Assert.Equal((false, code, signal), (status.Child.Running, status.Child.ExitCode, status.Child.Signal));
        Assert.Contains("retiring", (await relay.TryPutAsync("r2", [])).Text, StringComparison.Ordinal);
        await relay.StopAsync();
        Assert.Equal(code ?? 128 + signal, await relay.ExitAsync());
        Assert.Equal(States.Ended, relay.StatusFile().State);
        Assert.Equal(Failures.Exited, relay.StatusFile().Failure?.Kind);
    }

    [Fact]
    public async Task A_crash_ends_all_runs_also_when_a_helper_keeps_their_connections()
    {
        using var function = new ScriptedFunction();
        await using var relay = await StartAsync(function, "sleep 1000 & trap 'exit 9' USR1; echo set; while :; do sleep 0.05; done", config => config.Concurrency = 2);
        await relay.PutAsync("a", "");
        using var a = await function.NextAsync();
        await relay.PutAsync("b", "");
        using var b = await function.NextAsync();
        relay.Signal(Native.SigUsr1);
        Assert.Equal(Outcomes.Crashed, (await relay.EndOfAsync("a")).Outcome);
        Assert.Equal(Outcomes.Crashed, (await relay.EndOfAsync("b")).Outcome);
        Assert.Equal(9, (await relay.StatusAsync()).Child.ExitCode);
    }

    [Fact]
    public async Task A_connection_closed_by_a_living_process_is_a_disconnection()
    {
        await using var relay = await RelayUnderTest.WithEchoAsync();
        await relay.ReadyAsync();
        await relay.PutAsync("r", """{"mode":"disconnect","bytes":1000}""");
        Assert.Equal(Outcomes.Disconnected, (await relay.EndOfAsync("r")).Outcome);
    }

    [Fact]
    public async Task What_the_process_left_behind_is_killed_and_reaped()
    {
        using var function = new ScriptedFunction();
        // The inner shell ends at once, so its sleeper becomes an orphan.
        await using var relay = await StartAsync(function, "sh -c 'sleep 1000 & echo orphan $!'; echo set; trap 'exit 0' TERM; while :; do sleep 0.05; done");
        var orphan = int.Parse(relay.LogText().Split('\n').Single(l => l.StartsWith("orphan ", StringComparison.Ordinal))[7..], null);
        Assert.True(Directory.Exists($"/proc/{orphan}"));
        await relay.PutAsync("r", "");
        using var call = await function.NextAsync();
        await relay.CancelAsync("r");
        await relay.EndOfAsync("r");
        // A zombie would still be there.
        await Deadline.UntilAsync(() => Task.FromResult(!Directory.Exists($"/proc/{orphan}")), "the orphan's end");
    }

    private static async Task<RelayUnderTest> StartAsync(ScriptedFunction function, string script, Action<RelayConfig>? configure = null)
    {
        var config = new RelayConfig { Port = function.Port };
        configure?.Invoke(config);
        var relay = await RelayUnderTest.WithScriptAsync(config, script);
        return await relay.OnceAsync(async () =>
        {
            await relay.ReadyAsync();
            await Deadline.UntilAsync(() => Task.FromResult(relay.LogText().Contains("set\n", StringComparison.Ordinal)), "the script's first line");
        });
    }
}
