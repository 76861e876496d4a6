using GpuTasks.Destinations;

namespace GpuTasks.Tests.Destinations;

public sealed class DestinationTargetTests
{
    [Theory]
    [InlineData("acs:fc:local-1:1001:functions/f/prod", "function 1001 f prod")]
    [InlineData("acs:fc:::functions/f", "function  f LATEST")]
    [InlineData("topic:results", "topic  results")]
    [InlineData("acs:mns:local-1:1001:/topics/results/messages", "topic 1001 results")]
    [InlineData("acs:mns:local-1::topics/a-b_1/messages", "topic  a-b_1")]
    [InlineData("https://hooks.example.com/a?token=b", "webhook https://hooks.example.com/a?token=b")]
    [InlineData("http://[::1]:8080/a", "webhook http://[::1]:8080/a")]
    [InlineData("https://hooks.example.com:8443", "webhook https://hooks.example.com:8443/")]
    [InlineData("topic:", null)]
    [InlineData("topic:1st", null)]
    [InlineData("topic:a/b", null)]
    [InlineData("acs:mns:local-1:1001:/queues/q/messages", null)]
    [InlineData("https://user:secret@hooks.example.com/", null)]
    [InlineData("https://hooks.example.com/#part", null)]
    [InlineData("https:///a", null)]
    [InlineData("https://", null)]
    [InlineData("https://a b/", null)]
    [InlineData("https://hooks.example.com/\r\nx: y", null)]
    [InlineData("ftp://hooks.example.com/", null)]
    [InlineData("file:///etc/passwd", null)]
    [InlineData("/etc/passwd", null)]
    [InlineData("hooks.example.com", null)]
    [InlineData("", null)]
    public void Targets_are_read_by_their_form(string text, string? expected)
    {
        var read = DestinationTarget.TryParse(text, out var target);
        Assert.Equal(expected, !read ? null
            : target!.Function is { } function ? $"function {target.Account} {function.Function} {function.Qualifier}"
            : target.Topic is { } topic ? $"topic {target.Account} {topic}"
            : $"webhook {target.Webhook}");
    }

    [Fact]
    public void A_target_has_at_most_2048_characters()
    {
        Assert.True(DestinationTarget.TryParse("https://a.example/" + new string('x', 2_030), out _));
        Assert.False(DestinationTarget.TryParse("https://a.example/" + new string('x', 2_031), out _));
    }
}
