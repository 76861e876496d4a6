using GpuTasks.Destinations;

namespace GpuTasks.Tests.Destinations;

public sealed class DeliveryLanesTests
{
    private readonly Clock clock = new();
    private readonly DeliveryLanes lanes;

    public DeliveryLanesTests() => lanes = new DeliveryLanes(clock, perTarget: 2, perAccount: 3);

    [Fact]
    public async Task A_target_has_a_few_places_and_who_waits_gets_the_next()
    {
        var (first, second) = (await NeedAsync("a", "x"), await NeedAsync("a", "x"));
        var third = lanes.EnterAsync("a", "x");
        Assert.False(third.IsCompleted);

        // Another account has places of its own, at the same receiver too.
        await NeedAsync("b", "x");
        first.Leave(LaneReport.Answered);
        Assert.NotNull((await third).Place);
        second.Leave(LaneReport.Answered);
    }

    [Fact]
    public async Task An_account_with_many_targets_does_not_take_all_there_is()
    {
        foreach (var target in new[] { "x", "y", "z" })
        {
            await NeedAsync("a", target);
        }

        var (place, busy) = await lanes.EnterAsync("a", "w");
        Assert.Null(place);
        Assert.True(busy > TimeSpan.Zero);
        await NeedAsync("b", "w");
    }

    [Fact]
    public async Task A_target_that_is_away_is_closed_and_then_tried_by_one()
    {
        for (var i = 0; i < DeliveryLanes.FailuresToClose; i++)
        {
            (await NeedAsync("a", "x")).Leave(LaneReport.Away);
        }

        Assert.Equal(TimeSpan.FromSeconds(1), await BusyAsync());
        await NeedAsync("a", "y");
        clock.Now += TimeSpan.FromSeconds(1);
        var probe = await NeedAsync("a", "x");
        Assert.Equal(TimeSpan.FromSeconds(1), await BusyAsync());
        probe.Leave(LaneReport.Away);
        Assert.Equal(TimeSpan.FromSeconds(2), await BusyAsync());

        for (var i = 0; i < 12; i++)
        {
            clock.Now += DeliveryLanes.LongestClosed;
            (await NeedAsync("a", "x")).Leave(LaneReport.Away);
        }

        Assert.Equal(DeliveryLanes.LongestClosed, await BusyAsync());
        clock.Now += DeliveryLanes.LongestClosed;
        (await NeedAsync("a", "x")).Leave(LaneReport.Answered);
        await NeedAsync("a", "x");
        await NeedAsync("a", "x");
    }

    [Fact]
    public async Task A_target_that_asks_for_a_pause_gets_it_within_reason()
    {
        (await NeedAsync("a", "x")).Leave(LaneReport.Away, TimeSpan.FromSeconds(30));
        Assert.Equal(TimeSpan.FromSeconds(30), await BusyAsync());
        clock.Now += TimeSpan.FromSeconds(30);
        (await NeedAsync("a", "x")).Leave(LaneReport.Away, TimeSpan.FromDays(2));
        Assert.Equal(DeliveryLanes.LongestAsked, await BusyAsync());
    }

    [Fact]
    public async Task Places_are_neither_lost_nor_made_by_random_use()
    {
        var (inUse, most) = (0, 0);
        await Task.WhenAll(Enumerable.Range(0, 200).Select(async i =>
        {
            var (place, _) = await lanes.EnterAsync($"a{i % 7}", "x");
            if (place is not null)
            {
                most = Math.Max(most, Interlocked.Increment(ref inUse));
                await Task.Yield();
                Interlocked.Decrement(ref inUse);
                place.Leave(LaneReport.Answered);
            }
        }));
        Assert.InRange(most, 1, 14);
        for (var account = 0; account < 7; account++)
        {
            await NeedAsync($"a{account}", "x");
            await NeedAsync($"a{account}", "x");
        }
    }

    private async Task<DeliveryLanes.Place> NeedAsync(string account, string target)
    {
        var (place, _) = await lanes.EnterAsync(account, target);
        Assert.NotNull(place);
        return place;
    }

    private async Task<TimeSpan> BusyAsync()
    {
        var (place, busy) = await lanes.EnterAsync("a", "x");
        Assert.Null(place);
        return busy;
    }

    private sealed class Clock : TimeProvider
    {
        public DateTimeOffset Now { get; set; } = DateTimeOffset.FromUnixTimeMilliseconds(1_700_000_000_000);

        public override DateTimeOffset GetUtcNow() => Now;
    }
}
