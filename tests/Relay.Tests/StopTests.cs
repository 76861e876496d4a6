using System.Diagnostics;
using System.Net;

namespace GpuTasks.Relay.Tests;

public sealed class StopTests
{
    [Fact]
    public async Task Stop_calls_the_hook_then_ends_the_process_and_the_relay()
    {
        using var function = new ScriptedFunction();
        var config = new RelayConfig { Port = function.Port, PreStop = new HookConfig { TimeoutMs = 30_000 } };
        await using var relay = await RelayUnderTest.WithScriptAsync(config, "trap 'exit 4' TERM; while :; do sleep 0.05; done");
        await relay.ReadyAsync();
        await relay.StopAsync();
        using (var hook = await function.NextAsync())
        {
            Assert.StartsWith("GET /pre-stop HTTP/1.1\n", hook.Head, StringComparison.Ordinal);
            var status = await relay.StatusAsync();
            Assert.Equal(States.Stopping, status.State);
            Assert.True(status.Child.Running);
            await hook.AnswerAsync();
        }

        Assert.Equal(4, await relay.ExitAsync());
        Assert.Equal(States.Ended, relay.StatusFile().State);
        Assert.Null(relay.StatusFile().Failure);
        Assert.False(File.Exists(Path.Combine(relay.Box, "relay.sock")));
    }

    [Fact]
    public async Task A_hook_that_hangs_holds_up_the_stop_no_longer_than_its_limit()
    {
        using var function = new ScriptedFunction();
        var config = new RelayConfig { Port = function.Port, PreStop = new HookConfig { TimeoutMs = 300 } };
        await using var relay = await RelayUnderTest.WithScriptAsync(config, "exec sleep 1000");
        await relay.ReadyAsync();
        await relay.StopAsync();
        using var hook = await function.NextAsync();
        Assert.Equal(128 + Native.SigTerm, await relay.ExitAsync());
        Assert.Contains("pre-stop hook failed", relay.Words, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_second_stop_with_a_shorter_grace_cuts_the_first()
    {
        using var function = new ScriptedFunction();
        var config = new RelayConfig { Port = function.Port, GraceMs = 600_000, PreStop = new HookConfig { TimeoutMs = 600_000 } };
        await using var relay = await RelayUnderTest.WithScriptAsync(config, "trap '' TERM; while :; do sleep 0.05; done");
        await relay.ReadyAsync();
        await relay.StopAsync();
        using var hook = await function.NextAsync();
        await relay.StopAsync(0);
        Assert.Equal(128 + Native.SigKill, await relay.ExitAsync());
    }

    [Fact]
    public async Task Runs_still_open_at_a_stop_are_cancelled_and_stay_on_disk()
    {
        using var function = new ScriptedFunction();
        await using var relay = await RelayUnderTest.WithScriptAsync(new RelayConfig { Port = function.Port, Concurrency = 2 }, "exec sleep 1000");
        await relay.ReadyAsync();
        await relay.PutAsync("a", "");
        using var a = await function.NextAsync();
        await relay.PutAsync("b", "");
        using var b = await function.NextAsync();
        await relay.StopAsync();
        Assert.Equal(128 + Native.SigTerm, await relay.ExitAsync());
        var runs = relay.StatusFile().Runs;
        Assert.Equal(2, runs.Count);
        Assert.All(runs, run => Assert.Equal((RunStates.Ended, Outcomes.Cancelled), (run.State, run.Outcome)));
        Assert.True(File.Exists(Path.Combine(relay.Box, "runs", "a", "state.json")));
    }

    [Fact]
    public async Task Sigterm_to_the_relay_is_a_stop()
    {
        await using var relay = await RelayUnderTest.WithEchoAsync();
        await relay.ReadyAsync();
        relay.Signal(Native.SigTerm);
        Assert.Equal(0, await relay.ExitAsync());
        Assert.Contains("SIGTERM: leaving\n", relay.LogText(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Other_signals_are_passed_on()
    {
        using var function = new ScriptedFunction();
        await using var relay = await RelayUnderTest.WithScriptAsync(
            new RelayConfig { Port = function.Port },
            "trap 'echo hup' HUP; trap 'echo int' INT; trap 'echo usr1' USR1; trap 'echo usr2' USR2; echo set; while :; do sleep 0.05; done");
        await Deadline.UntilAsync(() => Task.FromResult(relay.LogText().Contains("set", StringComparison.Ordinal)), "the traps");
        foreach (var (signal, word) in ((int, string)[])[(Native.SigHangup, "hup"), (Native.SigInterrupt, "int"), (Native.SigUsr1, "usr1"), (Native.SigUsr2, "usr2")])
        {
            relay.Signal(signal);
            await Deadline.UntilAsync(() => Task.FromResult(relay.LogText().Contains(word, StringComparison.Ordinal)), word);
        }
    }

    [Fact]
    public async Task Retire_takes_no_new_runs_and_lets_open_ones_end()
    {
        using var function = new ScriptedFunction();
        await using var relay = await RelayUnderTest.WithScriptAsync(new RelayConfig { Port = function.Port, Concurrency = 2 }, "exec sleep 1000");
        await relay.ReadyAsync();
        await relay.PutAsync("r", "");
        using var call = await function.NextAsync();
        Assert.Equal(HttpStatusCode.NoContent, (await relay.CallAsync(HttpMethod.Post, "retire")).Status);
        Assert.Equal(States.Retiring, (await relay.StatusAsync()).State);
        Assert.Contains("\"retiring\"", (await relay.TryPutAsync("r2", [])).Text, StringComparison.Ordinal);
        await call.AnswerAsync();
        Assert.Equal(Outcomes.Answered, (await relay.EndOfAsync("r")).Outcome);
    }

    [Fact]
    public async Task A_status_poll_waits_for_a_change_and_no_longer()
    {
        using var function = new ScriptedFunction();
        await using var relay = await RelayUnderTest.WithScriptAsync(new RelayConfig { Port = function.Port }, "exec sleep 1000");
        var version = (await relay.ReadyAsync()).Version;
        var since = Stopwatch.StartNew();
        var (code, _) = await relay.CallAsync(HttpMethod.Get, $"status?after={version}&waitMs=300");
        Assert.Equal(HttpStatusCode.OK, code);
        Assert.InRange(since.ElapsedMilliseconds, 290, 20_000);

        var poll = relay.CallAsync(HttpMethod.Get, $"status?after={version}&waitMs=60000");
        since.Restart();
        await relay.CallAsync(HttpMethod.Post, "retire");
        await poll;
        Assert.InRange(since.ElapsedMilliseconds, 0, 20_000);
    }
}
