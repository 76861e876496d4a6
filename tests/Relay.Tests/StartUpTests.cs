using System.Net;
using System.Text.Json;

namespace GpuTasks.Relay.Tests;

public sealed class StartUpTests
{
    [Fact]
    public async Task A_server_that_listens_late_becomes_ready()
    {
        await using var relay = await RelayUnderTest.WithEchoAsync(environment: new() { ["LISTEN_AFTER_SECONDS"] = "0.7" });
        Assert.Equal(States.Starting, (await relay.StatusAsync()).State);
        Assert.Contains("not-ready", (await relay.TryPutAsync("r", [])).Text, StringComparison.Ordinal);
        await relay.ReadyAsync();
        await relay.PutAsync("r", "{}");
        Assert.Equal(Outcomes.Answered, (await relay.EndOfAsync("r")).Outcome);
    }

    [Fact]
    public async Task A_server_that_never_listens_fails_and_is_kept_until_the_stop()
    {
        await using var relay = await RelayUnderTest.WithEchoAsync(config => config.StartupTimeoutMs = 300, new() { ["LISTEN"] = "never" });
        var status = await relay.StateAsync(States.Failed);
        Assert.Equal(Failures.NeverListened, status.Failure?.Kind);
        Assert.Contains("within 0.3 s", status.Failure!.Message, StringComparison.Ordinal);
        Assert.True(status.Child.Running);
        await Deadline.UntilAsync(() => Task.FromResult(relay.LogText().Contains("Not listening", StringComparison.Ordinal)), "the function's first line");
        await relay.StopAsync();
        Assert.Equal(0, await relay.ExitAsync());
    }

    [Fact]
    public async Task A_process_that_ends_before_it_listens_fails_at_once()
    {
        await using var relay = await RelayUnderTest.WithEchoAsync(environment: new() { ["START_EXIT_CODE"] = "5" });
        var status = await relay.StateAsync(States.Failed);
        Assert.Equal(Failures.Exited, status.Failure?.Kind);
        Assert.Contains("exit code 5 before it was ready", status.Failure!.Message, StringComparison.Ordinal);
        await relay.StopAsync();
        Assert.Equal(5, await relay.ExitAsync());
    }

    [Theory]
    [InlineData("/no/such/command", "No such file", 127)]
    [InlineData("/etc/passwd", "ermission denied", 126)]
    public async Task A_command_that_cannot_be_started_fails_with_the_reason(string command, string reason, int code)
    {
        await using var relay = await RelayUnderTest.StartAsync(new RelayConfig(), [command]);
        var status = await relay.StateAsync(States.Failed);
        Assert.Equal(Failures.CannotStart, status.Failure?.Kind);
        Assert.Contains(reason, status.Failure!.Message, StringComparison.Ordinal);
        await relay.StopAsync();
        Assert.Equal(code, await relay.ExitAsync());
        Assert.Equal(States.Ended, relay.StatusFile().State);
    }

    [Fact]
    public async Task It_is_ready_after_enough_healthy_answers_in_a_row()
    {
        using var function = new ScriptedFunction();
        var config = new RelayConfig { Port = function.Port, HealthCheck = new HealthCheckConfig { Path = "/ready", PeriodMs = 10, TimeoutMs = 20_000, SuccessThreshold = 2 } };
        await using var relay = await RelayUnderTest.WithScriptAsync(config, "exec sleep 1000");
        // More failures than the failure threshold: before it was ready once, they only mean that it is not yet.
        foreach (var status in (int[])[503, 200, 500, 503, 404, 500, 200])
        {
            using var check = await function.NextAsync();
            Assert.StartsWith("GET /ready HTTP/1.1\n", check.Head, StringComparison.Ordinal);
            Assert.Equal(States.Starting, (await relay.StatusAsync()).State);
            await check.AnswerAsync(status: status);
        }

        using (var last = await function.NextAsync())
        {
            await last.AnswerAsync(status: 204);
        }

        await relay.ReadyAsync();
    }

    [Fact]
    public async Task A_server_that_never_gets_healthy_fails()
    {
        await using var relay = await RelayUnderTest.WithEchoAsync(
            config =>
            {
                config.StartupTimeoutMs = 2000;
                config.HealthCheck = new HealthCheckConfig { Path = "/ready", PeriodMs = 50 };
            },
            new() { ["READY_AFTER_SECONDS"] = "1000" });
        var status = await relay.StateAsync(States.Failed);
        // On a machine with much else to do it may not even have listened by then.
        Assert.Contains(status.Failure?.Kind, (string[])[Failures.Unhealthy, Failures.NeverListened]);
    }

    [Fact]
    public async Task A_ready_server_fails_after_too_many_unhealthy_answers_in_a_row()
    {
        using var function = new ScriptedFunction();
        var config = new RelayConfig { Port = function.Port, HealthCheck = new HealthCheckConfig { Path = "/ready", PeriodMs = 10, TimeoutMs = 20_000, FailureThreshold = 3 } };
        await using var relay = await RelayUnderTest.WithScriptAsync(config, "exec sleep 1000");
        foreach (var status in (int[])[200, 500, 500, 200, 500, 500])
        {
            using var check = await function.NextAsync();
            Assert.NotEqual(States.Failed, (await relay.StatusAsync()).State);
            await check.AnswerAsync(status: status);
        }

        // Two more ways to fail: silence is covered by the time-out, a closed connection here.
        (await function.NextAsync()).Dispose();
        var failed = await relay.StateAsync(States.Failed);
        Assert.Equal(Failures.Unhealthy, failed.Failure?.Kind);
        Assert.Contains("3 times in a row", failed.Failure!.Message, StringComparison.Ordinal);
        Assert.True(failed.Child.Running);
    }

    [Fact]
    public async Task The_health_check_rests_while_a_run_is_open_and_goes_on_after_it()
    {
        using var function = new ScriptedFunction();
        var config = new RelayConfig { Port = function.Port, HealthCheck = new HealthCheckConfig { Path = "/ready", PeriodMs = 1, TimeoutMs = 20_000, FailureThreshold = 1 } };
        await using var relay = await RelayUnderTest.WithScriptAsync(config, "exec sleep 1000");
        var runCame = new TaskCompletionSource<ScriptedCall>();
        // Healthy until the run comes; any check from then on is the end of the instance.
        var serving = Task.Run(async () =>
        {
            while (true)
            {
                var call = await function.NextAsync();
                if (call.FirstLine.StartsWith("POST /invoke", StringComparison.Ordinal))
                {
                    runCame.SetResult(call);
                }
                else
                {
                    await call.AnswerAsync(status: runCame.Task.IsCompleted ? 500 : 200);
                    call.Dispose();
                }
            }
        });
        await relay.ReadyAsync();
        await relay.PutAsync("r", "");
        using var run = await runCame.Task.WaitAsync(Deadline.Token);
        var version = (await relay.StatusAsync()).Version;
        // Some hundred periods without a change.
        await relay.CallAsync(HttpMethod.Get, $"status?after={version}&waitMs=300");
        Assert.Equal(States.Ready, (await relay.StatusAsync()).State);
        await run.AnswerAsync("x");
        Assert.Equal(Outcomes.Answered, (await relay.EndOfAsync("r")).Outcome);
        Assert.Equal(Failures.Unhealthy, (await relay.StateAsync(States.Failed)).Failure?.Kind);
        function.Dispose();
        await Assert.ThrowsAnyAsync<Exception>(() => serving);
    }

    [Fact]
    public async Task The_initializer_runs_once_before_the_first_run()
    {
        using var function = new ScriptedFunction();
        var config = new RelayConfig { Port = function.Port, Initializer = new HookConfig { TimeoutMs = 20_000 }, Headers = { ["x-fc-function-name"] = "f" } };
        await using var relay = await RelayUnderTest.WithScriptAsync(config, "exec sleep 1000");
        using (var hook = await function.NextAsync())
        {
            Assert.StartsWith("POST /initialize HTTP/1.1\n", hook.Head, StringComparison.Ordinal);
            Assert.Contains("x-fc-control-path: /initialize", hook.Head, StringComparison.Ordinal);
            Assert.Contains("x-fc-function-name: f", hook.Head, StringComparison.Ordinal);
            Assert.Contains("content-length: 0", hook.Head, StringComparison.Ordinal);
            Assert.Equal(States.Starting, (await relay.StatusAsync()).State);
            await hook.AnswerAsync();
        }

        await relay.ReadyAsync();
        await relay.PutAsync("r", "");
        using var call = await function.NextAsync();
        Assert.StartsWith("POST /invoke ", call.Head, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("500", "0", "answered 500")]
    [InlineData("200", "60", "did not answer within 1000 ms")]
    public async Task A_failed_initializer_fails_the_instance(string status, string seconds, string told)
    {
        await using var relay = await RelayUnderTest.WithEchoAsync(
            config => config.Initializer = new HookConfig { TimeoutMs = 1000 },
            new() { ["INITIALIZE_STATUS"] = status, ["INITIALIZE_SECONDS"] = seconds });
        var failed = await relay.StateAsync(States.Failed);
        Assert.Equal(Failures.Initializer, failed.Failure?.Kind);
        // The very first request of a web server can take longer than the limit on a busy machine.
        Assert.Contains(status == "500" ? "POST /initialize" : told, failed.Failure!.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_process_gets_its_environment_arguments_and_defaults()
    {
        var config = new RelayConfig { Port = RelayUnderTest.FreePort() };
        await using var relay = await RelayUnderTest.StartAsync(
            config,
            ["/bin/sh", "-c", "umask; echo \"$0|$1|$WORD|${GPUTASKS_BOX-unset}\"; grep -E 'Sig(Ign|Blk)' /proc/self/status; cat; echo pgid $(ps -o pgid= -p $$) pid $$", "zero", "ä b"],
            new() { ["WORD"] = "übung", ["GPUTASKS_BOX"] = "/elsewhere" });
        await relay.StateAsync(States.Failed);
        var lines = relay.LogText().Split('\n');
        Assert.Equal("0022", lines[0]);
        Assert.Equal("zero|ä b|übung|unset", lines[1]);
        Assert.Equal("SigBlk:\t0000000000000000", lines[2]);
        // The C library leaves its own two signals, 32 and 33, ignored in what it spawns; nobody else may use them.
        Assert.Matches("^SigIgn:\t0000000[01][08]0000000$", lines[3]);
        var words = lines[4].Split(' ', StringSplitOptions.RemoveEmptyEntries);
        Assert.Equal(words[3], words[1]);
    }

    [Fact]
    public async Task A_box_without_configuration_is_told_and_left()
    {
        var box = RelayUnderTest.NewBox();
        using var process = System.Diagnostics.Process.Start(new System.Diagnostics.ProcessStartInfo(
            Path.Combine(AppContext.BaseDirectory, "GpuTasks.Relay"), ["--box", box, "--", "/bin/true"]) { RedirectStandardError = true })!;
        var words = await process.StandardError.ReadToEndAsync(Deadline.Token);
        await process.WaitForExitAsync(Deadline.Token);
        Assert.Equal(64, process.ExitCode);
        Assert.Contains("config.json", words, StringComparison.Ordinal);
        Directory.Delete(box, recursive: true);
    }

    [Fact]
    public async Task Status_has_the_members_of_the_protocol()
    {
        await using var relay = await RelayUnderTest.StartAsync(new RelayConfig { InstanceId = "i-1", Epoch = 4 }, ["/bin/sleep", "1000"]);
        var (code, body) = await relay.CallAsync(HttpMethod.Get, "status");
        Assert.Equal(HttpStatusCode.OK, code);
        var status = JsonDocument.Parse(body).RootElement;
        Assert.Equal(1, status.GetProperty("protocol").GetInt32());
        Assert.Equal("i-1", status.GetProperty("instanceId").GetString());
        Assert.Equal(4, status.GetProperty("epoch").GetInt64());
        Assert.Equal("starting", status.GetProperty("state").GetString());
        Assert.Equal(JsonValueKind.Null, status.GetProperty("failure").ValueKind);
        Assert.Equal(
            ["pid", "running", "exitCode", "signal", "oomKilled"],
            status.GetProperty("child").EnumerateObject().Select(member => member.Name));
        foreach (var name in (string[])["version", "logStart", "logEnd"])
        {
            Assert.Equal(JsonValueKind.Number, status.GetProperty(name).ValueKind);
        }

        Assert.Equal(0, status.GetProperty("runs").GetArrayLength());
    }
}
