using GpuTasks.Containers;

namespace GpuTasks.Tests.Containers;

public sealed class HandOverTests
{
    private static EngineInfo Engine(string api, params string[] devices) =>
        new(Version.Parse(api), "x", 1, true, "runc") { CdiDevices = devices.ToHashSet() };

    [Fact]
    public void An_engine_that_lists_every_card_is_asked_by_its_own_names()
    {
        var way = HandOver.Choose(["GPU-1", "GPU-2"], Engine("1.50", "nvidia.com/gpu=GPU-1", "nvidia.com/gpu=GPU-2", "nvidia.com/gpu=all"), "compute,utility");
        Assert.Equal(["nvidia.com/gpu=GPU-1", "nvidia.com/gpu=GPU-2"], way.CdiDevices);
        Assert.Equal("void", way.VisibleDevices); // No hook is to act on it as well.

        var request = Assert.Single(HostOf(way).DeviceRequests!);
        Assert.Equal("cdi", request.Driver);
        Assert.Equal(way.CdiDevices, request.DeviceIDs);
        Assert.True(request.Count == 0 && request.Capabilities is null && request.Options is null, "the engine refuses more than names");
    }

    [Theory]
    [InlineData("1.49", "nvidia.com/gpu=GPU-1", "nvidia.com/gpu=GPU-2")]
    [InlineData("1.50", "nvidia.com/gpu=GPU-1", "nvidia.com/gpu=0")]
    [InlineData("1.41")]
    public void Any_other_engine_is_asked_by_identity_through_the_makers_hook(string api, params string[] devices)
    {
        var way = HandOver.Choose(["GPU-1", "GPU-2"], Engine(api, devices), "compute,utility,video");
        Assert.Equal("GPU-1,GPU-2", way.VisibleDevices);
        var request = Assert.Single(HostOf(way).DeviceRequests!);
        Assert.Equal("nvidia", request.Driver);
        Assert.Equal(["GPU-1", "GPU-2"], request.DeviceIDs);
        Assert.Equal(["gpu", "compute", "utility", "video"], Assert.Single(request.Capabilities!));
        Assert.Equal(0, request.Count);
    }

    [Fact]
    public void Without_cards_nothing_is_asked_and_every_hook_is_told_so()
    {
        Assert.Equal("void", HandOver.Choose([], Engine("1.50", "nvidia.com/gpu=GPU-1"), "compute").VisibleDevices);
        Assert.Empty(HostOf(HandOver.Nothing).DeviceRequests!);
    }

    [Fact]
    public void No_plan_names_a_runtime_or_lifts_a_wall()
    {
        var host = HostOf(new HandOver(["GPU-1"], [], "compute"));
        Assert.True(string.IsNullOrEmpty(host.Runtime), "the default runtime is the one that was checked");
        Assert.False(host.Privileged);
        Assert.Equal(["ALL"], host.CapDrop);
        Assert.True(host.Devices is null or { Count: 0 });
        Assert.True(host.DeviceCgroupRules is null or { Count: 0 });
    }

    [Theory]
    [InlineData("compute,utility", true)]
    [InlineData("utility,video", true)]
    [InlineData("video", false)]
    [InlineData("all", false)]
    [InlineData("", false)]
    public void Capabilities_are_named_one_by_one(string text, bool allowed) => Assert.Equal(allowed, HandOver.AreCapabilities(text));

    private static Docker.DotNet.Models.HostConfig HostOf(HandOver way) => DockerEngine.ParametersOf(new ContainerPlan
    {
        Name = "i-1",
        Image = "x",
        Entrypoint = [],
        Command = [],
        Environment = [],
        Labels = new Dictionary<string, string>(),
        Binds = [],
        MemoryBytes = 1,
        NanoCpus = 1,
        SharedMemoryBytes = 1,
        PidsLimit = 1,
        Network = "none",
        ReadOnlyRoot = false,
        Cards = way,
    }).HostConfig!;
}
