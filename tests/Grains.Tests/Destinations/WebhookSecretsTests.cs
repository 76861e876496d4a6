using GpuTasks.Destinations;

namespace GpuTasks.Tests.Destinations;

public sealed class WebhookSecretsTests
{
    private static readonly DateTimeOffset T0 = DateTimeOffset.FromUnixTimeMilliseconds(1_700_000_000_000);

    [Fact]
    public void During_a_rotation_two_are_valid_and_afterwards_one()
    {
        var two = new WebhookSecrets().Rotate("a", TimeSpan.FromHours(1), T0).Rotate("b", TimeSpan.FromHours(1), T0);
        Assert.Equal(["b", "a"], At(two, T0.AddMinutes(59)));
        Assert.Equal(["b"], At(two, T0.AddHours(1)));
    }

    [Fact]
    public void A_second_rotation_during_the_first_keeps_the_newest_two()
    {
        var s = new WebhookSecrets().Rotate("a", TimeSpan.Zero, T0).Rotate("b", TimeSpan.FromHours(1), T0).Rotate("c", TimeSpan.FromHours(2), T0);
        Assert.Equal(["c", "b"], At(s, T0.AddMinutes(90)));
    }

    [Fact]
    public void A_repeat_changes_nothing_and_no_overlap_ends_the_old_one_at_once()
    {
        var one = new WebhookSecrets().Rotate("a", TimeSpan.FromHours(1), T0);
        Assert.Same(one, one.Rotate("a", TimeSpan.FromHours(1), T0));
        var two = one.Rotate("b", TimeSpan.FromHours(1), T0);
        Assert.Same(two, two.Rotate("b", TimeSpan.FromHours(1), T0.AddMinutes(1)));
        Assert.Equal(["b"], At(one.Rotate("b", TimeSpan.Zero, T0), T0));
    }

    [Fact]
    public void A_secret_that_is_brought_back_is_valid_for_good_again()
    {
        var s = new WebhookSecrets().Rotate("a", TimeSpan.Zero, T0).Rotate("b", TimeSpan.FromHours(1), T0).Rotate("a", TimeSpan.FromHours(1), T0.AddMinutes(1));
        Assert.Equal(["a", "b"], At(s, T0.AddMinutes(2)));
        Assert.Equal(["a"], At(s, T0.AddDays(1)));
    }

    private static IEnumerable<string> At(WebhookSecrets secrets, DateTimeOffset now) => secrets.ValidAt(now).Select(one => one.Secret);
}
