using System.Text;
using GpuTasks.Destinations;

namespace GpuTasks.Tests.Destinations;

public sealed class WebhookSignatureTests
{
    private const string Spec = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    private const string Other = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

    // The first is the example that libraries of the scheme are tested with; both were computed once more with OpenSSL.
    [Theory]
    [InlineData(Spec, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, """{"test": 2432232314}""", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")]
    [InlineData(Spec, "d-0123", 1_700_000_000, """{"text":"grüße €"}""", "v1,5seDTqVflm5JVkdsJjK02Uz/pMEqxBshFr8dx+4Zlzw=")]
    public void Signatures_are_those_of_the_scheme(string secret, string id, long at, string body, string expected) =>
        Assert.Equal(expected, WebhookSignature.Sign([secret], id, DateTimeOffset.FromUnixTimeSeconds(at), Encoding.UTF8.GetBytes(body)));

    [Fact]
    public void Two_secrets_give_two_signatures_the_newest_first() => Assert.Equal(
        "v1,q7ojIrc264MSUGrD7hqVKr9ioJyBHasTr8GkEYpUHzw= v1,5seDTqVflm5JVkdsJjK02Uz/pMEqxBshFr8dx+4Zlzw=",
        WebhookSignature.Sign([Other, Spec], "d-0123", DateTimeOffset.FromUnixTimeMilliseconds(1_700_000_000_999), Encoding.UTF8.GetBytes("""{"text":"grüße €"}""")));

    [Theory]
    [InlineData(Spec, true)]
    [InlineData("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", false)]
    [InlineData("whsec_", false)]
    [InlineData("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLa", false)]
    [InlineData("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS!", false)]
    public void A_secret_is_a_prefix_and_24_to_64_bytes(string text, bool fits) => Assert.Equal(fits, WebhookSignature.IsSecret(text));

    [Theory]
    [InlineData(24, true)]
    [InlineData(64, true)]
    [InlineData(23, false)]
    [InlineData(65, false)]
    public void A_secret_has_the_length_of_a_key(int bytes, bool fits) =>
        Assert.Equal(fits, WebhookSignature.IsSecret(WebhookSignature.SecretPrefix + Convert.ToBase64String(new byte[bytes])));

    [Fact]
    public void Secrets_that_are_made_fit_and_differ()
    {
        var made = Enumerable.Range(0, 10).Select(_ => WebhookSignature.NewSecret()).ToList();
        Assert.All(made, secret => Assert.True(WebhookSignature.IsSecret(secret)));
        Assert.Distinct(made);
    }
}
