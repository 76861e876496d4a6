namespace GpuTasks.Relay.Tests;

/// <summary>A second relay in a box that an earlier one left behind.</summary>
public sealed class RestartTests
{
    [Fact]
    public async Task An_open_run_is_reported_as_crashed_and_is_not_started_again()
    {
        using var function = new ScriptedFunction();
        var config = new RelayConfig { Port = function.Port, Concurrency = 2, Epoch = 2 };
        var box = RelayUnderTest.NewBox();
        var first = await RelayUnderTest.WithScriptAsync(config, "echo first; exec sleep 1000", box);
        await first.ReadyAsync();
        await first.PutAsync("done", "", RelayUnderTest.Order(epoch: 9));
        using (var call = await function.NextAsync())
        {
            await call.AnswerAsync("kept");
        }

        await first.EndOfAsync("done");
        await first.PutAsync("open", "", RelayUnderTest.Order(epoch: 9));
        using var open = await function.NextAsync();
        await first.KillAsync();
        // Half an order, as a power cut may leave it: never accepted.
        Directory.CreateDirectory(Path.Combine(box, "runs", "half"));
        await File.WriteAllTextAsync(Path.Combine(box, "runs", "half", "request"), "x", Deadline.Token);

        await using var second = await RelayUnderTest.WithScriptAsync(config, "echo second; exec sleep 1000", box);
        var status = await second.ReadyAsync();
        Assert.Equal(["done", "open"], status.Runs.Select(run => run.RunId).Order(StringComparer.Ordinal));
        var crashed = status.Runs.Single(run => run.RunId == "open");
        Assert.Equal((RunStates.Ended, Outcomes.Crashed, "told back"), (crashed.State, crashed.Outcome, crashed.Context));
        Assert.NotEmpty(crashed.Message);
        Assert.Equal("kept", await second.ResponseAsync("done"));
        Assert.Equal(System.Net.HttpStatusCode.OK, (await second.TryPutAsync("open", [], RelayUnderTest.Order(epoch: 9))).Status);
        Assert.Equal(9, status.Epoch);
        Assert.Contains("stale-epoch", (await second.TryPutAsync("late", [], RelayUnderTest.Order(epoch: 8))).Text, StringComparison.Ordinal);
        Assert.False(Directory.Exists(Path.Combine(box, "runs", "half")));
        await Deadline.UntilAsync(() => Task.FromResult(second.LogText() == "first\nsecond\n"), "both logs in one");
    }
}
