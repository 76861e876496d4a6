using GpuTasks.Containers;

namespace GpuTasks.Tests.Containers;

/// <summary>What every engine must do. The fake and Docker both pass it, so tests on the fake say something.</summary>
public abstract class EngineContractTests : IAsyncLifetime
{
    private const string Label = "gputasks.test";
    private readonly string prefix = $"t{Guid.NewGuid():N}"[..12];
    private readonly List<string> made = [];
    private IContainerEngine? engine;

    private IContainerEngine Engine => engine!;

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    private protected abstract IContainerEngine Connect();

    public ValueTask InitializeAsync()
    {
        engine = Connect();
        return ValueTask.CompletedTask;
    }

    public async ValueTask DisposeAsync()
    {
        GC.SuppressFinalize(this);
        if (engine is null)
        {
            return;
        }

        foreach (var name in made)
        {
            await engine.RemoveAsync(name, CancellationToken.None);
        }

        (engine as IDisposable)?.Dispose();
    }

    private async Task<string> CreateAsync(string suffix = "a", Func<ContainerPlan, ContainerPlan>? change = null)
    {
        var image = await Engine.FindImageAsync(TestDocker.EchoImage, Token);
        Assert.NotNull(image);
        var plan = new ContainerPlan
        {
            Name = $"{prefix}-{suffix}",
            Image = image.Id,
            Entrypoint = image.Entrypoint,
            Command = image.Command,
            Environment = ["A=b"],
            Labels = new Dictionary<string, string> { [Label] = prefix },
            Binds = [],
            MemoryBytes = 128 << 20,
            NanoCpus = 500_000_000,
            SharedMemoryBytes = 64 << 20,
            PidsLimit = 128,
            Network = "none",
            ReadOnlyRoot = false,
        };
        plan = change?.Invoke(plan) ?? plan;
        made.Add(plan.Name);
        await Engine.CreateAsync(plan, Token);
        return plan.Name;
    }

    [Fact]
    public async Task It_tells_about_itself()
    {
        var info = await Engine.GetInfoAsync(Token);
        Assert.True(info.ApiVersion >= new Version(1, 41));
        Assert.True(info.Processors >= 1);
        Assert.NotEqual("nvidia", info.DefaultRuntime);
    }

    [Fact]
    public async Task An_image_that_is_not_here_is_null() => Assert.Null(await Engine.FindImageAsync($"gputasks/none:{prefix}", Token));

    [Fact]
    public async Task An_image_tells_its_start_command()
    {
        var image = await Engine.FindImageAsync(TestDocker.EchoImage, Token);
        Assert.NotNull(image);
        Assert.StartsWith("sha256:", image.Id, StringComparison.Ordinal);
        Assert.NotEmpty(image.Entrypoint.Concat(image.Command));
        Assert.Equal("linux", image.Os);
    }

    [Fact]
    public async Task A_pull_that_fails_says_why()
    {
        var e = await Assert.ThrowsAsync<EngineException>(() =>
            Engine.PullImageAsync($"127.0.0.1:9/none:{prefix}", new RegistryLogin("u", "p"), _ => { }, TimeSpan.FromSeconds(30), Token));
        Assert.Equal(EngineFault.ImageMissing, e.Fault);
        Assert.NotEmpty(e.Message);
    }

    [Fact]
    public async Task A_container_goes_from_created_to_running_to_exited_to_nothing()
    {
        var name = await CreateAsync();
        Assert.Equal(ContainerState.Created, (await Engine.FindAsync(name, measure: false, Token))?.State);
        await Engine.StartAsync(name, Token);
        await Engine.StartAsync(name, Token); // A repeat does nothing.
        var running = await Engine.FindAsync(name, measure: true, Token);
        Assert.Equal(ContainerState.Running, running?.State);
        Assert.NotNull(running?.WrittenBytes);
        Assert.Equal(name, running?.Name);
        await Engine.KillAsync(name, Token);
        await WaitAsync(async () => (await Engine.FindAsync(name, measure: false, Token))?.State == ContainerState.Exited);
        Assert.Equal(137, (await Engine.FindAsync(name, measure: false, Token))?.ExitCode);
        await Engine.KillAsync(name, Token); // So does this.
        await Engine.RemoveAsync(name, Token);
        Assert.Null(await Engine.FindAsync(name, measure: false, Token));
        await Engine.RemoveAsync(name, Token);
        await Engine.KillAsync(name, Token);
    }

    [Fact]
    public async Task A_running_container_can_be_removed_by_id()
    {
        var name = await CreateAsync();
        await Engine.StartAsync(name, Token);
        await Engine.RemoveAsync((await Engine.FindAsync(name, measure: false, Token))!.Id, Token);
        Assert.Null(await Engine.FindAsync(name, measure: false, Token));
    }

    [Fact]
    public async Task A_name_that_is_taken_is_a_conflict()
    {
        await CreateAsync();
        var e = await Assert.ThrowsAsync<EngineException>(() => CreateAsync());
        Assert.Equal(EngineFault.Conflict, e.Fault);
    }

    [Fact]
    public async Task An_image_that_a_container_is_made_of_is_not_removed_and_one_that_is_not_here_stays_gone()
    {
        await CreateAsync();
        Assert.False(await Engine.RemoveImageAsync(TestDocker.EchoImage, Token));
        Assert.NotNull(await Engine.FindImageAsync(TestDocker.EchoImage, Token));
        Assert.True(await Engine.RemoveImageAsync($"gputasks/none:{prefix}", Token));
    }

    [Fact]
    public async Task An_image_that_is_not_here_cannot_be_created_from()
    {
        var e = await Assert.ThrowsAsync<EngineException>(() => CreateAsync(change: plan => plan with { Image = $"gputasks/none:{prefix}" }));
        Assert.Equal(EngineFault.ImageMissing, e.Fault);
    }

    [Fact]
    public async Task Starting_what_is_not_there_is_not_found()
    {
        var e = await Assert.ThrowsAsync<EngineException>(() => Engine.StartAsync($"{prefix}-none", Token));
        Assert.Equal(EngineFault.NotFound, e.Fault);
    }

    [Fact]
    public async Task A_list_has_every_container_with_the_label_and_no_other()
    {
        var created = await CreateAsync("a");
        var running = await CreateAsync("b");
        await Engine.StartAsync(running, Token);
        await CreateAsync("c", plan => plan with { Labels = new Dictionary<string, string> { [Label] = "other" } });
        var found = await Engine.ListAsync(Label, prefix, Token);
        Assert.Equal([(created, ContainerState.Created), (running, ContainerState.Running)], found.Select(c => (c.Name, c.State)).Order());
        Assert.All(found, container => Assert.Equal(prefix, container.Labels[Label]));
    }

    private protected static async Task WaitAsync(Func<Task<bool>> condition)
    {
        var deadline = TimeProvider.System.GetTimestamp() + (20 * TimeProvider.System.TimestampFrequency);
        while (!await condition())
        {
            Assert.True(TimeProvider.System.GetTimestamp() < deadline, "It did not come about within 20 s.");
            await Task.Delay(20, Token);
        }
    }
}

public sealed class FakeEngineTests : EngineContractTests
{
    private protected override IContainerEngine Connect() => new FakeEngine();
}

public sealed class DockerEngineTests : EngineContractTests
{
    private protected override IContainerEngine Connect()
    {
        TestDocker.SkipWithoutEngine();
        return new DockerEngine(TestDocker.Endpoint);
    }

    [Fact]
    public async Task An_engine_that_is_away_is_unreachable()
    {
        using var away = new DockerEngine("unix:///run/gputasks-no-such-engine.sock");
        var e = await Assert.ThrowsAsync<EngineException>(() => away.FindAsync("x", measure: false, TestContext.Current.CancellationToken));
        Assert.Equal(EngineFault.Unreachable, e.Fault);
    }
}

public sealed class EngineWordsTests
{
    [Theory]
    [InlineData("a", "a", "latest")]
    [InlineData("a:1", "a", "1")]
    [InlineData("host:5000/a", "host:5000/a", "latest")]
    [InlineData("host:5000/a:1", "host:5000/a", "1")]
    [InlineData("a@sha256:00", "a", "sha256:00")]
    public void A_reference_has_a_tag_or_gets_one(string image, string repository, string tag) =>
        Assert.Equal((repository, tag), DockerEngine.SplitReference(image));

    [Theory]
    [InlineData("could not select device driver \"nvidia\" with capabilities: [[gpu]]", "CardHandOver")]
    [InlineData("OCI runtime create failed: nvidia-container-cli: device error: GPU-1: unknown device", "CardHandOver")]
    [InlineData("unable to find user app: no matching entries in passwd file", "ImageCannotStart")]
    [InlineData("failed to create shim task: out of pty devices", "Failed")]
    public void A_failed_start_is_classed_by_its_words(string message, string fault) =>
        Assert.Equal(fault, DockerEngine.ClassifyStart(message).ToString());
}
