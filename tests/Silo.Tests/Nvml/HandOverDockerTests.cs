using System.Text.Json;
using GpuTasks.Functions;
using GpuTasks.Nodes;
using GpuTasks.Quota;
using GpuTasks.Tasks;
using GpuTasks.Tests.Containers;

namespace GpuTasks.Tests.Nvml;

/// <summary>Cards of the stub driver, handed over by a real engine; what counts is what the container saw.</summary>
public sealed class HandOverDockerTests
{
    /// <summary>The echo image with the environment that images of the maker have.</summary>
    private const string GreedyImage = "gputasks/echo:all-cards";

    [Theory]
    [InlineData(TestDocker.EchoImage)]
    [InlineData(GreedyImage)]
    public async Task A_container_sees_its_own_card_and_no_other(string image)
    {
        using var driver = new StubDriver();
        driver.Set(StubDriver.Card(0), StubDriver.Card(1));
        using var cards = driver.Open();
        await using var node = await AgentHarness.OnDockerAsync(options => options.Cards = "", cards);
        var environment = await EnvironmentAsync(node, image, new CardShare(StubDriver.Uuid(1), 4_096, 250, 1));
        Assert.Equal(StubDriver.Uuid(1), environment["NVIDIA_VISIBLE_DEVICES"]);
        Assert.Equal("compute,utility", environment["NVIDIA_DRIVER_CAPABILITIES"]);
        Assert.Equal("4096", environment["GPU_MEMORY_LIMIT_MIB"]);
    }

    [Fact]
    public async Task A_container_without_cards_sees_none_whatever_its_image_says()
    {
        using var driver = new StubDriver();
        driver.Set(StubDriver.Card(0));
        using var cards = driver.Open();
        await using var node = await AgentHarness.OnDockerAsync(options => options.Cards = "", cards);
        Assert.Equal("void", (await EnvironmentAsync(node, GreedyImage))["NVIDIA_VISIBLE_DEVICES"]);
    }

    [Fact]
    public async Task A_hand_over_that_fails_is_the_platforms_fault()
    {
        using var driver = new StubDriver();
        driver.Set(StubDriver.Card(0).Replace("GPU-00000000", "GPU-ffffffff", StringComparison.Ordinal));
        using var cards = driver.Open();
        await using var node = await AgentHarness.OnDockerAsync(options => options.Cards = "", cards);
        var id = node.NewId();
        await node.Agent.LaunchAsync(node.Order(id, null, new CardShare(cards.Cards[0].Uuid, 16_384, 1_000, 1)), AgentHarness.Token);
        await node.UntilGoneAsync(id);
        var failure = node.Platform.Latest(id)!.Failure;
        Assert.Equal(RunOutcome.EngineError, failure?.Outcome);
        Assert.Contains("unknown device", failure!.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_lease_is_given_back_once_its_card_is_clean()
    {
        using var driver = new StubDriver();
        driver.Set(StubDriver.Card(0));
        using var cards = driver.Open();
        await using var node = await AgentHarness.OnDockerAsync(options => options.Cards = "", cards);
        var id = await ReadyAsync(node, TestDocker.EchoImage, new CardShare(StubDriver.Uuid(0), 16_384, 1_000, 1));
        driver.Replace("card", StubDriver.Card(0, usedMiB: 900));
        await node.Agent.StopInstanceAsync(id, force: true, AgentHarness.Token);
        await AgentHarness.UntilAsync(() => node.Platform.LastReport!.Cards.Single().State == CardState.Dirty, "the card is reported dirty");
        Assert.DoesNotContain(id, node.Platform.Released);
        driver.Replace("card", StubDriver.Card(0));
        await node.UntilGoneAsync(id);
        Assert.Equal(CardState.Ready, cards.Cards.Single().State);
    }

    [Fact]
    public async Task A_run_on_a_card_that_fails_is_told_as_the_cards_fault()
    {
        using var driver = new StubDriver();
        driver.Set(StubDriver.Card(0));
        using var cards = driver.Open();
        await using var node = await AgentHarness.OnDockerAsync(options => options.Cards = "", cards);
        var id = await ReadyAsync(node, TestDocker.EchoImage, new CardShare(StubDriver.Uuid(0), 16_384, 1_000, 1));
        var run = await node.StartRunAsync(id, new { mode = "sleep", seconds = 60 });
        driver.Set("event 0 8 48");
        var report = await node.ReportOfAsync(run);
        Assert.Equal(RunOutcome.GpuFault, report.Outcome);
        Assert.Contains("Xid 48", report.Message, StringComparison.Ordinal);
        await node.UntilGoneAsync(id);
    }

    private static async Task<Dictionary<string, string>> EnvironmentAsync(AgentHarness node, string image, params CardShare[] shares)
    {
        var id = await ReadyAsync(node, image, shares);
        var report = await node.ReportOfAsync(await node.StartRunAsync(id, new { mode = "env" }));
        Assert.Equal(RunOutcome.Succeeded, report.Outcome);
        using var json = JsonDocument.Parse(report.Response);
        return json.RootElement.GetProperty("environment").EnumerateObject().ToDictionary(entry => entry.Name, entry => entry.Value.ToString());
    }

    private static async Task<string> ReadyAsync(AgentHarness node, string image, params CardShare[] shares)
    {
        var id = node.NewId();
        var order = node.Order(id, spec => spec with { Container = new ContainerSpec { Image = image } }, shares);
        Assert.Equal(LaunchOutcome.Accepted, await node.Agent.LaunchAsync(order, AgentHarness.Token));
        await AgentHarness.UntilAsync(() => node.Platform.Latest(id) is { State: InstanceState.Ready } or { Failure: not null }, "the instance is ready");
        Assert.Null(node.Platform.Latest(id)!.Failure);
        return id;
    }
}
