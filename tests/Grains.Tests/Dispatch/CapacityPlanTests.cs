using GpuTasks.Functions;

namespace GpuTasks.Dispatch;

public sealed class CapacityPlanTests
{
    private static readonly PlanPeriod Always = new(null, null, null, null, null);
    private static readonly DateTimeOffset Noon = new(2026, 3, 2, 12, 0, 0, TimeSpan.Zero);

    [Fact]
    public void Without_schedules_and_policies_it_is_the_plan_s_own_number() =>
        Assert.Equal(3, CapacityPlan.TargetAt(new InstancePlan(3, [], []), Noon, slotsInUse: 50, concurrency: 1));

    [Fact]
    public void The_schedule_that_fired_last_counts_until_another_fires()
    {
        var plan = new InstancePlan(1, [Cron("0 0 8 * * *", 10), Cron("0 0 20 * * *", 2)], []);
        Assert.Equal(10, At(plan, Noon));
        Assert.Equal(10, At(plan, Noon.AddHours(8).AddTicks(-1)));
        Assert.Equal(2, At(plan, Noon.AddHours(8)));
        Assert.Equal(2, At(plan, Noon.AddHours(19)));
        Assert.Equal(10, At(plan, Noon.AddHours(20)));
    }

    [Fact]
    public void Outside_of_its_period_a_schedule_says_nothing()
    {
        var period = Always with { From = Noon.AddDays(1), Until = Noon.AddDays(3) };
        var plan = new InstancePlan(1, [Cron("0 0 8 * * *", 10) with { Period = period }], []);
        Assert.Equal(1, At(plan, Noon));
        Assert.Equal(1, At(plan, Noon.AddDays(1.5)));
        Assert.Equal(10, At(plan, Noon.AddDays(2)));
        Assert.Equal(1, At(plan, Noon.AddDays(3.1)));
    }

    [Fact]
    public void A_schedule_follows_the_clock_of_its_zone_and_a_single_moment_counts_from_then_on()
    {
        var eight = Cron("0 0 8 * * *", 10) with { Period = Always with { TimeZone = "Asia/Shanghai" } };
        var once = new ScheduledTarget("once", "at(2026-03-02T13:00:00Z)", null, Noon.AddHours(1), 7, Always);
        var plan = new InstancePlan(1, [eight, once], []);
        Assert.Equal(10, At(plan, Noon.AddHours(0.9)));
        Assert.Equal(7, At(plan, Noon.AddHours(1)));
        Assert.Equal(7, At(plan, Noon.AddHours(11.9)));
        Assert.Equal(10, At(plan, Noon.AddHours(12)));
    }

    [Fact]
    public void A_policy_asks_for_as_many_as_keep_use_at_its_target_within_its_bounds()
    {
        var plan = new InstancePlan(50, [], [new TrackingPolicy("p", "ProvisionedConcurrencyUtilization", 0.5, 2, 12, Always)]);
        Assert.Equal(2, CapacityPlan.TargetAt(plan, Noon, 0, 1));
        Assert.Equal(8, CapacityPlan.TargetAt(plan, Noon, 4, 1));
        Assert.Equal(4, CapacityPlan.TargetAt(plan, Noon, 4, 2));
        Assert.Equal(12, CapacityPlan.TargetAt(plan, Noon, 40, 1));
        Assert.Equal(20, CapacityPlan.TargetAt(plan with { Schedules = [Cron("0 0 8 * * *", 20)] }, Noon, 4, 1));
        var later = plan.Policies[0] with { Period = Always with { From = Noon.AddDays(1) } };
        Assert.Equal(50, CapacityPlan.TargetAt(plan with { Policies = [later] }, Noon, 4, 1));
    }

    private static int At(InstancePlan plan, DateTimeOffset now) => CapacityPlan.TargetAt(plan, now, 0, 1);

    private static ScheduledTarget Cron(string cron, int target) => new("s", $"cron({cron})", cron, null, target, Always);
}
