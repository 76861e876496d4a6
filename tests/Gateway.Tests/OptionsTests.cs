using GpuTasks.Gateway.Keys;

namespace GpuTasks.Gateway.Tests;

public sealed class OptionsTests
{
    [Fact]
    public void All_faults_of_the_settings_are_told_at_once()
    {
        var result = new GatewayOptionsCheck().Validate(null, new GatewayOptions
        {
            Region = "a b",
            MaxAsyncPayloadBytes = 262_145,
            MaxSyncPayloadBytes = 0,
            SignatureSkewMinutes = 0,
            NonceWindow = 1,
            SyncQueueSeconds = -1,
            KeysFile = "/does/not/exist.json",
        });
        Assert.True(result.Failed);
        Assert.Equal(7, result.Failures!.Count());
        Assert.Contains(result.Failures!, fault => fault.Contains("MaxAsyncPayloadBytes must be from 1 to 262144, was 262145", StringComparison.Ordinal));
        Assert.Contains(result.Failures!, fault => fault.Contains("/does/not/exist.json", StringComparison.Ordinal));
        Assert.Contains(new GatewayOptionsCheck().Validate(null, new GatewayOptions()).Failures!, fault => fault.Contains("KeysFile must name", StringComparison.Ordinal));
    }

    [Fact]
    public void A_good_keys_file_opens_what_it_names()
    {
        var faults = new List<string>();
        var ring = KeyRing.Parse(GatewayServer.Keys, faults)!;
        Assert.Empty(faults);
        Assert.Equal(GatewayServer.Account, ring.FindAccessKey(GatewayServer.AccessKey)!.Account);
        Assert.Equal(GatewayServer.OtherAccount, ring.FindApiKey(GatewayServer.OtherApiKey));
        Assert.True(ring.IsOperatorKey(GatewayServer.OperatorKey));
        Assert.False(ring.IsOperatorKey(""));
        Assert.False(KeyRing.Parse("""{"accounts":[]}""", faults)!.IsOperatorKey(""));
    }

    [Theory]
    [InlineData("", "not valid JSON")]
    [InlineData("[]", "one JSON object")]
    [InlineData("{}", "accounts is missing")]
    [InlineData("""{"accounts":{}}""", "accounts must be an array")]
    [InlineData("""{"accounts":[1]}""", "accounts[0] must be an object")]
    [InlineData("""{"accounts":[{}]}""", "accounts[0].id must be a string")]
    [InlineData("""{"accounts":[{"id":"a/b"}]}""", "accounts[0].id must be 1 to 64")]
    [InlineData("""{"accounts":[{"id":"a"},{"id":"a"}]}""", "occurs twice")]
    [InlineData("""{"accounts":[{"id":"a","accessKeys":[{"id":"k"}]}]}""", "accounts[0].accessKeys[0].secret")]
    [InlineData("""{"accounts":[{"id":"a","accessKeys":[{"id":"k","secret":"short"}]}]}""", "at least 8")]
    [InlineData("""{"accounts":[{"id":"a","accessKeys":[{"id":"k","secret":"12345678"}]},{"id":"b","accessKeys":[{"id":"k","secret":"12345678"}]}]}""", "occurs twice")]
    [InlineData("""{"accounts":[{"id":"a","apiKeys":["short"]}]}""", "accounts[0].apiKeys[0]")]
    [InlineData("""{"accounts":[{"id":"a","apiKeys":["12345678","12345678"]}]}""", "apiKeys[1] occurs twice")]
    [InlineData("""{"operatorKey":"12345678","accounts":[{"id":"a","apiKeys":["12345678"]}]}""", "also the operator key")]
    [InlineData("""{"operatorKey":"","accounts":[]}""", "operatorKey must be a string")]
    [InlineData("""{"operatorKey":7,"accounts":[]}""", "operatorKey must be a string")]
    public void A_faulty_keys_file_says_what_is_wrong(string json, string fault)
    {
        var faults = new List<string>();
        Assert.Null(KeyRing.Parse(json, faults));
        Assert.Contains(faults, text => text.Contains(fault, StringComparison.Ordinal));
    }
}
