using GpuTasks.Simulation;

namespace GpuTasks.Quota;

public sealed class FaultWalkTests
{
    [Theory]
    [InlineData(11)]
    [InlineData(12)]
    [InlineData(13)]
    [InlineData(14)]
    [InlineData(15)]
    [InlineData(16)]
    [InlineData(17)]
    [InlineData(18)]
    public async Task Walks_through_faults_break_no_rule(int seed)
    {
        var walk = await FaultWalk.RunAsync(new WalkOptions(seed, 12_500));
        Assert.InRange(walk.Started, 500, int.MaxValue);
    }

    [Fact]
    public async Task Two_live_copies_over_one_store_never_lease_a_card_twice()
    {
        var walk = await FaultWalk.RunAsync(new WalkOptions(21, 10_000, Copies: 2));
        Assert.InRange(walk.Granted, 200, int.MaxValue);
        Assert.InRange(walk.Refused, 100, int.MaxValue);
    }

    [Fact]
    public async Task Without_fencing_the_walk_finds_the_fault()
    {
        var broken = await Assert.ThrowsAsync<BrokenRuleException>(() => FaultWalk.RunAsync(new WalkOptions(11, 25_000, Fenced: false)));
        var again = await Assert.ThrowsAsync<BrokenRuleException>(() => FaultWalk.RunAsync(new WalkOptions(11, 25_000, Fenced: false)));
        Assert.Equal(broken.Message, again.Message);
    }
}
