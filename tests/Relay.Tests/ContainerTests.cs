using System.Net;
using System.Text.Json;

namespace GpuTasks.Relay.Tests;

/// <summary>The static binary as PID 1 of an image with one program in it, with nothing allowed that can be forbidden.</summary>
public sealed class ContainerTests
{
    [Theory]
    [InlineData(0)]
    [InlineData(1000)]
    public async Task It_runs_under_every_restriction(int user)
    {
        await using var container = await StartAsync(user, config =>
        {
            config.HealthCheck = new HealthCheckConfig { Path = "/ready" };
            config.Initializer = new HookConfig();
            config.PreStop = new HookConfig();
        });
        var relay = container.Relay;
        await relay.ReadyAsync();
        await relay.PutAsync("r", """{"mode":"env"}""");
        Assert.Equal(Outcomes.Answered, (await relay.EndOfAsync("r")).Outcome);
        var answer = JsonDocument.Parse(await relay.ResponseAsync("r")).RootElement;
        Assert.Equal(user, answer.GetProperty("uid").GetInt32());
        Assert.NotEqual(1, answer.GetProperty("pid").GetInt32());
        Assert.Equal((await relay.StatusAsync()).Child.Pid, answer.GetProperty("pid").GetInt32());

        await relay.StopAsync();
        Assert.Equal("0", await Docker.RunAsync("wait", container.Id));
        Assert.Equal(States.Ended, relay.StatusFile().State);
        var log = relay.LogText();
        Assert.Contains("FC Initialize End", log, StringComparison.Ordinal);
        Assert.Contains("FC PreStop End", log, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_function_out_of_memory_leaves_the_relay_and_earlier_answers_alone()
    {
        await using var container = await StartAsync(1000, config => config.Concurrency = 2);
        var relay = container.Relay;
        await relay.ReadyAsync();
        await relay.PutAsync("before", "kept");
        await relay.EndOfAsync("before");
        await relay.PutAsync("beside", """{"mode":"sleep","seconds":600}""");
        await relay.PutAsync("r", """{"mode":"oom"}""");
        var run = await relay.EndOfAsync("r");
        Assert.Equal(Outcomes.OutOfMemory, run.Outcome);
        Assert.InRange(run.MaxMemoryBytes, 120L << 20, 128L << 20);
        Assert.Equal(Outcomes.OutOfMemory, (await relay.EndOfAsync("beside")).Outcome);
        var status = await relay.StateAsync(States.Failed);
        Assert.Equal((true, Native.SigKill), (status.Child.OomKilled, status.Child.Signal));
        Assert.Equal("kept", await relay.ResponseAsync("before"));
        await relay.StopAsync();
        Assert.Equal("137", await Docker.RunAsync("wait", container.Id));
    }

    [Fact]
    public async Task The_engine_s_stop_is_a_stop()
    {
        await using var container = await StartAsync(1000, _ => { });
        await container.Relay.ReadyAsync();
        await Docker.RunAsync("stop", "-t", "30", container.Id);
        Assert.Equal("0", await Docker.RunAsync("inspect", "-f", "{{.State.ExitCode}}", container.Id));
        Assert.Contains("SIGTERM: leaving\n", container.Relay.LogText(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_function_that_ignores_sigterm_is_killed_within_the_container()
    {
        await using var container = await StartAsync(1000, config => config.GraceMs = 300);
        var relay = container.Relay;
        await relay.ReadyAsync();
        await relay.PutAsync("r", """{"mode":"ignore-term","seconds":600}""");
        await Deadline.UntilAsync(() => Task.FromResult(relay.LogText().Contains("Invoke Start", StringComparison.Ordinal)), "the run's start");
        await relay.CancelAsync("r");
        Assert.Equal(Outcomes.Cancelled, (await relay.EndOfAsync("r")).Outcome);
        var status = await relay.StateAsync(States.Ended);
        Assert.False(status.Child.Running);
        Assert.Equal(HttpStatusCode.NoContent, (await relay.CallAsync(HttpMethod.Post, "runs/r/ack")).Status);
        await relay.StopAsync();
        await Docker.RunAsync("wait", container.Id);
    }

    [Fact]
    public async Task It_stays_small()
    {
        await using var container = await StartAsync(1000, _ => { });
        var relay = container.Relay;
        await relay.ReadyAsync();
        for (var i = 0; i < 20; i++)
        {
            Assert.Equal(HttpStatusCode.Created, (await relay.TryPutAsync($"r{i}", new byte[2_000_000])).Status);
            await relay.EndOfAsync($"r{i}");
            await relay.CallAsync(HttpMethod.Post, $"runs/r{i}/ack");
        }

        var pid = await Docker.RunAsync("inspect", "-f", "{{.State.Pid}}", container.Id);
        var line = (await File.ReadAllLinesAsync($"/proc/{pid}/status", Deadline.Token)).Single(l => l.StartsWith("VmHWM:", StringComparison.Ordinal));
        // It is charged to the function's memory, of which the smallest function has 128 MiB.
        Assert.InRange(int.Parse(line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1], null), 1, 20_000);
    }

    private static async Task<Container> StartAsync(int user, Action<RelayConfig> configure)
    {
        Docker.Need();
        var config = new RelayConfig { InstanceId = "in-a-container" };
        configure(config);
        var box = RelayUnderTest.NewBox();
        File.SetUnixFileMode(box, (UnixFileMode)0x1ff);
        await File.WriteAllBytesAsync(
            Path.Combine(box, "config.json"), JsonSerializer.SerializeToUtf8Bytes(config, Json.Default.RelayConfig), Deadline.Token);
        var id = await Docker.RunAsync(
            "run", "-d", "--network", "none", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--user", $"{user}",
            "--memory", "128m", "--memory-swap", "128m", "--pids-limit", "100", "-v", $"{box}:/.gputasks", "-v", $"{RelayUnderTest.StaticRelayPath}:/.gputasks-relay:ro",
            "--entrypoint", "/.gputasks-relay", await Docker.EchoImageAsync(), "--", "/echo");
        var container = new Container(id, RelayUnderTest.Attach(box));
        try
        {
            await Deadline.UntilAsync(() => Task.FromResult(File.Exists(Path.Combine(box, "relay.sock"))), "the socket");
            return container;
        }
        catch
        {
            await container.DisposeAsync();
            throw;
        }
    }

    private sealed class Container(string id, RelayUnderTest relay) : IAsyncDisposable
    {
        internal string Id { get; } = id;

        internal RelayUnderTest Relay { get; } = relay;

        public async ValueTask DisposeAsync()
        {
            await Docker.RunAsync("rm", "-f", "-v", Id);
            await Relay.DisposeAsync();
        }
    }
}
