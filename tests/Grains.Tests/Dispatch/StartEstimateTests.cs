namespace GpuTasks.Dispatch;

public sealed class StartEstimateTests
{
    private static readonly DateTimeOffset Now = new(2026, 1, 1, 0, 0, 0, TimeSpan.Zero);
    private static readonly TimeSpan Run = TimeSpan.FromSeconds(100);

    [Fact]
    public void The_head_gets_the_slot_that_is_free_first_and_rounds_follow()
    {
        DateTimeOffset[] freeAt = [Now.AddSeconds(60), Now.AddSeconds(-5), Now.AddSeconds(30)];
        Assert.Equal(Now, StartEstimate.Of(freeAt, Run, 0, Now));
        Assert.Equal(Now.AddSeconds(30), StartEstimate.Of(freeAt, Run, 1, Now));
        Assert.Equal(Now.AddSeconds(60), StartEstimate.Of(freeAt, Run, 2, Now));
        Assert.Equal(Now.AddSeconds(100), StartEstimate.Of(freeAt, Run, 3, Now));
        Assert.Equal(Now.AddSeconds(230), StartEstimate.Of(freeAt, Run, 7, Now));
    }

    [Fact]
    public void Without_slots_or_beyond_time_there_is_none()
    {
        Assert.Null(StartEstimate.Of([], Run, 0, Now));
        Assert.Null(StartEstimate.Of([Now], TimeSpan.FromDays(1), long.MaxValue / 2, Now));
    }

    [Fact]
    public void The_mean_is_of_the_latest_alone()
    {
        var times = new RecentTimes();
        times.Add(TimeSpan.FromDays(1));
        for (var i = 0; i < 64; i++)
        {
            times.Add(TimeSpan.FromSeconds(i % 2 == 0 ? 1 : 3));
        }

        Assert.Equal((64, TimeSpan.FromSeconds(2)), (times.Count, times.Mean));
    }
}
