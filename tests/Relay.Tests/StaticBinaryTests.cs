using System.Globalization;

namespace GpuTasks.Relay.Tests;

/// <summary>The static binary as an ordinary process: what could differ from the ordinary build.</summary>
public sealed class StaticBinaryTests
{
    [Fact]
    public async Task It_starts_runs_cancels_and_passes_its_exit_code_on()
    {
        Assert.SkipWhen(RelayUnderTest.StaticRelayPath is null, "GPUTASKS_RELAY names no static binary.");
        await using var relay = await RelayUnderTest.WithEchoAsync(binary: RelayUnderTest.StaticRelayPath);
        await relay.ReadyAsync();
        await relay.PutAsync("a", """{"mode":"flood","bytes":100000,"to":"both"}""");
        Assert.Equal(Outcomes.Answered, (await relay.EndOfAsync("a")).Outcome);
        await relay.PutAsync("b", """{"mode":"sleep","seconds":600}""");
        await relay.CancelAsync("b");
        Assert.Equal(Outcomes.Cancelled, (await relay.EndOfAsync("b")).Outcome);
        await relay.StateAsync(States.Ended);
        await relay.StopAsync();
        Assert.Equal(0, await relay.ExitAsync());
        var lines = relay.LogText().Split('\n').Where(line => line.Length == 99).Select(line => int.Parse(line[..12], CultureInfo.InvariantCulture));
        Assert.Equal(Enumerable.Range(0, 1000), lines);
    }

    [Fact]
    public async Task It_tells_why_a_command_cannot_be_started()
    {
        Assert.SkipWhen(RelayUnderTest.StaticRelayPath is null, "GPUTASKS_RELAY names no static binary.");
        await using var relay = await RelayUnderTest.StartAsync(new RelayConfig(), ["/no/such/command"], binary: RelayUnderTest.StaticRelayPath);
        var status = await relay.StateAsync(States.Failed);
        Assert.Contains("No such file", status.Failure!.Message, StringComparison.Ordinal);
        await relay.StopAsync();
        Assert.Equal(127, await relay.ExitAsync());
    }
}
